//! The program `tunnel`.

fn main() {}
