//! What Prometheus scrapes: how long files took from their appearance until a rule could use them, on both stores.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    either::Place,
    home::PATIENCE,
    world::{free_port, until_true},
};

pub fn scrape(port: u16) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latency_of_files_is_a_histogram_of_each_entity() {
    for place in Place::both().await {
        place.declare(
            "    key: [id]\n    fields:\n    - {name: id, type: Integer}\n    - {name: name, type: String}\n    source: {files: {url: data, format: CSV}}\n",
        );
        place.home.write("town/data/first.csv", "id,name\n1,Ann\n");
        // It was written just before, so it is one that arrived.
        place.read();
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let _running = place.spawn_with("log", &["--metrics", &address]);
        until_true("the metrics", PATIENCE, || scrape(port).contains("# EOF")).await.unwrap();
        place.home.deliver("town/data/second.csv", b"id,name\n2,Bo\n");
        place.home.deliver("town/data/third.csv", b"id,name\n3,Cy\n");
        let labels = "{namespace=\"default\",dataset=\"town\",entity=\"person\"}";
        let count = format!("campanile_ingest_latency_seconds_count{labels} 3\n");
        until_true("three files", PATIENCE, || scrape(port).contains(&count)).await.unwrap();
        let page = scrape(port);
        assert!(page.contains("content-type: application/openmetrics-text; version=1.0.0"), "{page}");
        assert!(page.contains("# TYPE campanile_ingest_latency_seconds histogram\n"), "{page}");
        let buckets: Vec<u64> = page
            .lines()
            .filter(|line| line.starts_with("campanile_ingest_latency_seconds_bucket{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(buckets.is_sorted() && buckets.len() == 12 && buckets.last() == Some(&3), "{page}");
        assert!(page.contains("le=\"+Inf\""), "{page}");
    }
}
