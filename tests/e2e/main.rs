//! End-to-end tests of the real program: a proxy, clients, visitors and origins on loopback, over real sockets.

#[path = "../harness/mod.rs"]
mod harness;
mod harness_itself;

mod http {
    mod bodies;
    mod errors;
    mod fields;
    mod interim;
    mod origins;
    mod requests;
}

mod websocket {
    mod ends;
    mod handshake;
    mod messages;
    mod pressure;
}
