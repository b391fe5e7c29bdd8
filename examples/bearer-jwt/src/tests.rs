//! The plugin against a fake host, with tokens that PyJWT has signed (`tests/signed.json`), and tokens signed here.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use guest_sdk::testing::{Host, Loaded, RequestBuilder, answer, get};
use serde_json::{Value, json};

use super::*;

const URL: &str = "https://idp.example.com/jwks.json";
const CONFIG: &str = "
    jwks = 'https://idp.example.com/jwks.json'
    issuer = 'https://idp.example.com/'
    audience = 'app'
";
/// Within the time of the tokens.
const NOW: u64 = 1_700_000_300;

fn signed() -> Value {
    serde_json::from_str(include_str!("../tests/signed.json")).expect("it is JSON")
}

fn with(token: &str) -> RequestBuilder {
    get("/").header("authorization", format!("Bearer {token}"))
}

/// A key of the test's own.
fn our_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn our_jwks(id: &str) -> String {
    let x = BASE64_URL_SAFE_NO_PAD.encode(our_key().verifying_key().as_bytes());
    json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x }] }).to_string()
}

fn sign(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = our_key().sign(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn claims() -> Value {
    json!({ "iss": "https://idp.example.com/", "aud": "app", "sub": "anna", "exp": NOW + 60 })
}

fn plugin(jwks: &str) -> Loaded<BearerJwt> {
    Host::new().at(NOW).answers(URL, answer(200).body(jwks)).load(CONFIG)
}

/// What the service of a refused token's bearer is told.
fn reason(plugin: &Loaded<BearerJwt>, token: &str) -> String {
    let answer = plugin.request(with(token)).answered();
    assert_eq!(answer.status, 401);
    answer.text().trim_start_matches("The token ").trim_end_matches(".\n").to_owned()
}

#[test]
fn tokens_of_all_three_algorithms_hold() {
    let signed = signed();
    let plugin = plugin(&signed["jwks"].to_string());
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = signed["tokens"][algorithm].as_str().expect("there is one");
        let exchange = plugin.request(with(token).header("x-user", "admin")).forwarded();
        assert_eq!(exchange.header("x-user"), Some("anna"), "{algorithm}");
        assert_eq!(exchange.note("user").as_deref(), Some("anna"));
    }
    // The keys were fetched for the first only.
    assert_eq!(plugin.host().calls().len(), 1);
}

#[test]
fn a_changed_token_doesnt() {
    let signed = signed();
    let plugin = plugin(&signed["jwks"].to_string());
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = signed["tokens"][algorithm].as_str().expect("there is one");
        let (head, signature) = token.rsplit_once('.').expect("it has three parts");
        let (header, _) = head.split_once('.').expect("it has three parts");
        let admin =
            json!({ "iss": "https://idp.example.com/", "aud": "app", "sub": "root", "exp": NOW + 60 });
        let claims = BASE64_URL_SAFE_NO_PAD.encode(admin.to_string());
        assert_eq!(reason(&plugin, &format!("{header}.{claims}.{signature}")), "has a wrong signature");
        assert_eq!(reason(&plugin, &format!("{head}.AAAA")), "has a wrong signature", "{algorithm}");
    }
}

#[test]
fn every_claim_is_checked() {
    let plugin = plugin(&our_jwks("k"));
    let header = json!({ "alg": "EdDSA", "kid": "k" });
    let refused = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        reason(&plugin, &sign(&header, &claims))
    };
    let _ = plugin.request(with(&sign(&header, &claims()))).forwarded();
    assert_eq!(refused("exp", json!(NOW - 31)), "has expired");
    assert_eq!(refused("nbf", json!(NOW + 31)), "isn't valid yet");
    assert_eq!(refused("iss", json!("https://idp.example.com")), "is of another issuer");
    assert_eq!(refused("aud", json!(["application"])), "is for another audience");
    assert_eq!(refused("exp", Value::Null), "lacks one of iss, sub, aud, exp");
    assert_eq!(reason(&plugin, "abc"), "isn't a JWT");
}

#[test]
fn the_token_doesnt_choose_how_it_is_checked() {
    let plugin = plugin(&our_jwks("k"));
    for algorithm in ["none", "HS256", "RS256", "eddsa"] {
        let token = sign(&json!({ "alg": algorithm, "kid": "k" }), &claims());
        assert_eq!(reason(&plugin, &token), "is signed with an unknown key", "{algorithm}");
    }
    let token = sign(&json!({ "alg": "EdDSA", "kid": "k", "crit": ["b64"] }), &claims());
    assert_eq!(reason(&plugin, &token), "uses extensions that aren't known here");
    let without_id = sign(&json!({ "alg": "EdDSA" }), &claims());
    let _ = plugin.request(with(&without_id)).forwarded();
}

#[test]
fn a_new_key_is_asked_for_but_not_too_often() {
    let host = Host::new()
        .at(NOW)
        .answers(URL, answer(200).body(our_jwks("old")))
        .answers(URL, answer(200).body(our_jwks("new")));
    let plugin = host.load::<BearerJwt>(CONFIG);
    let token = |id: &str| sign(&json!({ "alg": "EdDSA", "kid": id }), &claims());
    let _ = plugin.request(with(&token("old"))).forwarded();
    let _ = plugin.request(with(&token("new"))).forwarded();
    assert_eq!(host.calls().len(), 2);
    for id in ["a", "b", "c"] {
        assert_eq!(reason(&plugin, &token(id)), "is signed with an unknown key");
    }
    assert_eq!(host.calls().len(), 2);
    host.advance(Duration::from_secs(30));
    assert_eq!(reason(&plugin, &token("a")), "is signed with an unknown key");
    assert_eq!(host.calls().len(), 3);
}

#[test]
fn the_timer_fetches_and_a_bad_answer_replaces_nothing() {
    let host = Host::new().at(NOW).answers(URL, answer(200).body(our_jwks("k"))).answers(URL, answer(500));
    let plugin = host.load::<BearerJwt>(CONFIG);
    plugin.tick().expect("there are keys");
    assert!(plugin.tick().is_err());
    let _ = plugin.request(with(&sign(&json!({ "alg": "EdDSA", "kid": "k" }), &claims()))).forwarded();
}

#[test]
fn without_keys_it_is_our_fault_and_not_the_visitors() {
    let host = Host::new().at(NOW).fails(URL, http_client::Error::Timeout);
    let fault =
        host.load::<BearerJwt>(CONFIG).request(with(&sign(&json!({ "alg": "EdDSA" }), &claims()))).failed();
    assert_eq!(fault.message(), "no answer in time");
    assert_eq!(host.load::<BearerJwt>(CONFIG).request(get("/")).answered().status, 401);
}
