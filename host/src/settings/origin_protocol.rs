//! The version of HTTP that a service is spoken to in, as it is written.

use std::str::FromStr;

use super::values::Wrong;
use crate::client::OriginProtocol;

impl FromStr for OriginProtocol {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text {
            "http1" => Ok(Self::Http1),
            "h2" => Ok(Self::H2),
            "auto" => Ok(Self::Auto),
            _ => Err(Wrong(format!(
                "\"{text}\" is no version of HTTP that services are spoken to in; write http1, h2 or auto"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_by_their_names() {
        for (text, protocol) in
            [("http1", OriginProtocol::Http1), ("h2", OriginProtocol::H2), ("auto", OriginProtocol::Auto)]
        {
            assert_eq!(text.parse(), Ok(protocol));
        }
        let wrong = "http2".parse::<OriginProtocol>().unwrap_err().to_string();
        assert!(wrong.contains("http1, h2 or auto"), "{wrong}");
    }
}
