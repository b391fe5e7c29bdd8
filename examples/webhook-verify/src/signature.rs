//! How the senders write their signatures down.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Claim;

/// `sha256=<hex>` of the body.
pub(crate) fn github(header: &str) -> Option<Claim> {
    let signature = digest(header.strip_prefix("sha256=")?)?;
    Some(Claim { prefix: String::new(), signatures: vec![signature] })
}

/// `t=<seconds>,v1=<hex>,v1=<hex>` of the time, a dot and the body. A webhook from another time is one that was recorded.
pub(crate) fn stripe(header: &str, now: u64, tolerance: u64) -> Option<Claim> {
    let fields = || header.split(',').filter_map(|field| field.trim().split_once('='));
    let (_, time) = fields().find(|(name, _)| *name == "t")?;
    if time.parse::<u64>().ok()?.abs_diff(now) > tolerance {
        return None;
    }
    let signatures = fields().filter(|(name, _)| *name == "v1").filter_map(|(_, hex)| digest(hex)).collect();
    Some(Claim { prefix: format!("{time}."), signatures })
}

pub(crate) fn holds(claim: &Claim, body: &[u8], key: &[u8]) -> bool {
    let Ok(empty) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    let expected = empty.chain_update(&claim.prefix).chain_update(body);
    // `verify` takes the same time for all that are wrong.
    claim.signatures.iter().any(|signature| expected.clone().verify_slice(signature).is_ok())
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(hex, &mut bytes).ok()?;
    Some(bytes)
}
