//! Which hop-by-hop headers come off and what the proxy says about a visitor.
