//! End-to-end tests of the real program: a proxy, clients, visitors and origins on loopback, over real sockets.

#[path = "../harness/mod.rs"]
mod harness;
mod harness_itself;

mod admission {
    mod cluster;
    mod door;
    mod invitations;
    mod many;
    mod names;
    mod often;
    mod pages;
    mod replay;
    mod revoked;
    mod targets;
}

mod http {
    mod bodies;
    mod errors;
    mod fields;
    mod grpc;
    mod h2;
    mod h2_floods;
    mod interim;
    mod origins;
    mod requests;
    mod smuggling;
}

mod websocket {
    mod ends;
    mod handshake;
    mod messages;
    mod pressure;
}

mod liveness {
    mod load;
    mod losses;
    mod several;
    mod stopping;
}

mod cluster {
    mod bulk;
    mod crossing;
    mod documented;
    mod killed;
    mod names;
    mod network;
    mod once;
    mod redis;
    mod restart;
}

mod limits {
    mod bodies;
    mod peers;
    mod registration;
    mod slow;
    mod visitors;
}

mod door {
    mod announced;
    mod places;
}

mod tls {
    mod plain;
    mod reload;
    mod serving;
    mod visitors;
}

mod nodes {
    mod admin;
    mod spread;
}

mod operators {
    mod access_log;
    mod api;
    mod metrics;
    mod traces;
}

mod plugins {
    mod applications;
    mod author;
    mod check;
    mod client;
    mod examples;
    mod proxy;
    mod reload;
    mod reload_proxy;
}

mod v1 {
    mod environment;
    mod lives;
    mod nodes;
    mod registration;
    mod serving;
    mod sockets;
}

mod cli {
    mod demo;
    mod failures;
    mod service;
    mod tools;
}
