//! `tunnel`: a service behind a firewall becomes reachable through a public proxy, without opening a port.
//!
//! The modules stand on floors; imports point down only, and siblings never import each other:
//!
//! ```text
//! 6  main.rs                       parse, bind, run, exit code
//! 5  settings                      command line, files, environment; knows every Config
//! 4  proxy   client   demo         the roles
//! 3  bus                           who holds which tunnel
//! 2  plugin  session  trace        siblings
//! 1  exchange  redis  operator     the trait Forward; the connection to Redis; the listener for operators
//! 0  wire                          plain values
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
