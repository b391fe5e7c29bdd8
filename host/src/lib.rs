//! `tunnel`: a service behind a firewall becomes reachable through a public proxy, without opening a port.
//!
//! The modules stand on floors; imports point down only, and siblings never import each other:
//!
//! ```text
//! 5  main.rs                parse, bind, run, exit code
//! 4  settings               command line, files, environment; knows every Config
//! 3  proxy   client   demo  the roles
//! 2  plugin  session   bus  siblings
//! 1  exchange               the trait Forward
//! 0  wire                   plain values
//! ```

pub mod wire;

pub mod exchange;
pub mod operator;
pub mod redis;

pub mod plugin;
pub mod session;
pub mod trace;

pub mod bus;

pub mod client;
pub mod demo;
pub mod proxy;

pub mod settings;
