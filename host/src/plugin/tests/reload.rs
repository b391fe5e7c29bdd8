//! Plugins that are replaced while exchanges pass.

use std::sync::{
    Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use super::*;
use crate::exchange::Swap;

/// As many as the engine has instances: if each reload lost one, the last could not be loaded.
const RELOADS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_load_lose_no_exchange_and_leak_nothing() {
    let wasm = guest("hostile");
    let origin: Arc<dyn Forward> = Arc::new(Origin::default());
    let loaded = async |n: usize| {
        let mut config = hostile("on-request", "good");
        // Another configuration each time: a plugin that is the same is kept, and there would be nothing to see.
        config.config = format!("{{\"on-request\": \"good\", \"n\": {n}}}");
        host().load(&wasm, config).await.unwrap()
    };
    let first = loaded(0).await;
    let swap = Arc::new(Swap::new(Arc::new(Chain::new(vec![Arc::clone(&first)], Arc::clone(&origin)))));
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (swap, stop, served) = (Arc::clone(&swap), Arc::clone(&stop), Arc::clone(&served));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    let Answer::Http(response) = swap.forward(request("body")).await.unwrap() else {
                        panic!("HTTP was asked for")
                    };
                    assert_eq!(response.body.collect().await.unwrap().to_bytes(), "answer");
                    served.fetch_add(1, Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut gone: Vec<Weak<Plugin>> = vec![Arc::downgrade(&first)];
    drop(first);
    for n in 1..=RELOADS {
        let plugin = loaded(n).await;
        gone.push(Arc::downgrade(&plugin));
        swap.replace(Arc::new(Chain::new(vec![plugin], Arc::clone(&origin))));
    }
    stop.store(true, Relaxed);
    for visitor in visitors {
        visitor.await.unwrap();
    }
    assert!(served.load(Relaxed) > 0);
    let alive = gone.iter().filter(|plugin| plugin.strong_count() > 0).count();
    assert_eq!(alive, 1, "only the one in force is left");
}
