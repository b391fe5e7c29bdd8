//! Pages of browsers at the door for clients: a page must not use what its visitor's browser reaches.

use crate::harness::{Head, Proxy, Wire, applicant::ask, path_text, tunnel::Home};

/// The answer to a client of the original's dialect, or a page that speaks it.
async fn old(proxy: &Proxy, fields: &str) -> Head {
    let mut wire = Wire::connect(proxy.address).await;
    wire.send(format!(
        "GET /proxy/subscribe HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n",
        proxy.address
    ))
    .await;
    wire.head().await
}

const HERS: &str = "Origin: https://app.example.com\r\n";

#[tokio::test]
async fn no_page_attaches_unless_its_origin_is_listed() {
    let proxy = Proxy::start(&[]).await;
    for fields in [
        HERS,
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\nOrigin: http://localhost\r\n",
    ] {
        for head in [old(&proxy, fields).await, ask(proxy.address, fields).await.1] {
            assert_eq!(head.status(), 403, "{fields}: {head:?}");
            assert_eq!(head.text("tunnel-error").as_deref(), Some("not-a-client"));
        }
    }
    assert_eq!(old(&proxy, "").await.status(), 101);
}

#[tokio::test]
async fn listed_pages_attach_in_the_original_s_dialect_alone() {
    let home = Home::new();
    let settings = "[registration]\nopen = true\npages = ['https://app.example.com']\n";
    let settings = home.write("proxy.toml", settings);
    let mut proxy = Proxy::start(&["--config", path_text(&settings)]).await;
    assert_eq!(old(&proxy, HERS).await.status(), 101);
    assert_eq!(ask(proxy.address, HERS).await.1.status(), 403);
    for other in
        ["https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:444"]
    {
        assert_eq!(old(&proxy, &format!("Origin: {other}\r\n")).await.status(), 403, "{other}");
    }
    assert_eq!(old(&proxy, &format!("{HERS}Origin: https://evil.example\r\n")).await.status(), 403);
    home.write("proxy.toml", "[registration]\nopen = true\n");
    proxy.process.event("reloaded").await;
    assert_eq!(old(&proxy, HERS).await.status(), 403);
}
