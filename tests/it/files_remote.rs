//! Files in object stores: listed, streamed, read once by etag, with the resource's own secret; and what nobody reaches.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use crate::{
    either::Place,
    world::{Azure, S3, azure},
};

const SECRET: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: login}\nstringData: {access_key_id: a, secret_access_key: b}\n";

fn declare(place: &Place, files: &str) {
    place.declare(&format!(
        "    key: [id]\n    fields:\n    - {{name: id, type: Integer}}\n    - {{name: name, type: String}}\n    source: {{files: {{{files}}}}}\n"
    ));
    place.home.write("town/secret.yaml", SECRET);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_once_and_again_when_their_etag_changes() {
    let s3 = S3::start().await.unwrap();
    s3.put("shop", b"").unwrap();
    for place in Place::both().await {
        let folder = if place.url.is_some() { "one" } else { "two" };
        s3.put(&format!("shop/{folder}/b.csv"), b"id,name\n1,B\n2,B\n").unwrap();
        s3.put(&format!("shop/{folder}/a.csv"), b"id,name\n1,A\n3,A\n").unwrap();
        s3.put(&format!("shop/{folder}/deeper/c.csv"), b"id,name\n9,C\n").unwrap();
        s3.put(&format!("shop/{folder}x.csv"), b"id,name\n8,X\n").unwrap();
        let endpoint = s3.endpoint();
        let files = format!(
            "url: 's3://shop/{folder}', endpoint: '{endpoint}', format: CSV, secretRef: {{name: login}}, every: 1s"
        );
        declare(&place, &files);
        let allow = ["--allow-url", &*endpoint];
        assert_eq!(place.run(&allow).code, 0);
        assert_eq!(place.people().await, ["1 B", "2 B", "3 A"]);
        let read = place.ask("SELECT path || ' ' || at_us FROM file ORDER BY path").await;
        assert!(read[0].starts_with(&format!("s3://shop/{folder}/a.csv ")), "{read:?}");
        assert_eq!(place.run(&allow).code, 0);
        assert_eq!(place.ask("SELECT path || ' ' || at_us FROM file ORDER BY path").await, read);
        s3.put(&format!("shop/{folder}/a.csv"), b"id,name\n1,A again\n").unwrap();
        assert_eq!(place.run(&allow).code, 0);
        assert_eq!(place.people().await, ["1 A again", "2 B", "3 A"]);
        // Without the flag the address is one that nobody reaches, and without the secret nobody is let in.
        assert_eq!(place.run(&[]).code, 1);
        assert!(
            place.message().contains("is not encrypted; use https, or allow it by --allow-url"),
            "{}",
            place.message()
        );
        declare(&place, &files.replace("{name: login}", "{name: other}"));
        assert_eq!(place.run(&allow).code, 1);
        assert_eq!(place.message(), "SourceUnreadable: there is no Secret `other`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_is_read_and_written_with_its_own_key() {
    let store = Azure::start().await.unwrap();
    store.make_container("shop").unwrap();
    let (endpoint, now) = (store.endpoint(), "2026-03-01T09:00:00Z");
    let login = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{account: {}, access_key: '{}'}}\n",
        azure::ACCOUNT,
        azure::KEY
    );
    for place in Place::both().await {
        let folder = if place.url.is_some() { "one" } else { "two" };
        store.put_blob(&format!("shop/{folder}/a.csv"), b"id,name\n1,A\n3,A\n").unwrap();
        let reached = format!("endpoint: '{endpoint}', secretRef: {{name: login}}");
        declare(&place, &format!("url: 'az://shop/{folder}', {reached}, format: CSV, every: 1s"));
        place.home.write("town/secret.yaml", &login);
        place.home.write(
            "town/audience.yaml",
            &format!(
                "apiVersion: campanile.dev/v1alpha1\nkind: Audience\nmetadata: {{name: all}}\nspec:\n  dataset: town\n  entity: person\n  \
                 where: 'true'\n  refresh: {{cron: '0 9 * * *', timeZone: UTC}}\n  export: {{url: 'az://shop/{folder}/b.csv', {reached}, \
                 format: CSV, fields: [id, name]}}\n"
            ),
        );
        assert_eq!(place.run(&["--allow-url", &endpoint, "--now", now]).code, 0, "{}", place.message());
        assert_eq!(place.people().await, ["1 A", "3 A"]);
        // What was written is one more file of the dataset.
        assert_eq!(place.run(&["--allow-url", &endpoint, "--now", now]).code, 0, "{}", place.message());
        assert_eq!(place.ask("SELECT CAST(row_count AS TEXT) FROM file WHERE path LIKE '%b.csv'").await, ["2"]);
    }
}

/// Answers every request with `answer`; what was asked is handed back.
fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = vec![];
            let mut block = [0; 1024];
            while !asked.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut block) {
                    Ok(n) if n > 0 => asked.extend_from_slice(&block[..n]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer(&String::from_utf8_lossy(&asked)).as_bytes());
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_over_http_is_read_and_a_redirect_inside_is_refused() {
    let csv = "id,name\n1,Web\n";
    let port = serve(move |asked| {
        let head =
            "HTTP/1.1 200 OK\r\nconnection: close\r\netag: \"one\"\r\nlast-modified: Wed, 01 Apr 2026 00:00:00 GMT";
        if asked.contains(" /inside.csv ") {
            return "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: http://127.0.0.2:9/secret\r\ncontent-length: 0\r\n\r\n".to_owned();
        }
        let body = if asked.starts_with("HEAD") { "" } else { csv };
        format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", csv.len())
    });
    for place in Place::both().await {
        let allow = format!("http://127.0.0.1:{port}/");
        declare(&place, &format!("url: '{allow}people.csv', format: CSV, every: 1s"));
        assert_eq!(place.run(&["--allow-url", &allow]).code, 0, "{}", place.message());
        assert_eq!(place.people().await, ["1 Web"]);
        declare(&place, &format!("url: '{allow}inside.csv', format: CSV, every: 1s"));
        assert_eq!(place.run(&["--allow-url", &allow]).code, 1);
        assert_eq!(place.message(), "SourceUnreadable: 127.0.0.2 is a private address");
        declare(&place, "url: 'https://169.254.169.254/latest/meta-data', format: CSV, every: 1s");
        assert_eq!(place.run(&[]).code, 1);
        assert!(place.message().ends_with("is a private address"), "{}", place.message());
        // A name is no way around.
        declare(&place, "url: 'https://localhost/people.csv', format: CSV, every: 1s");
        assert_eq!(place.run(&[]).code, 1);
        assert_eq!(place.message(), "SourceUnreadable: localhost leads to a private address");
    }
}

#[tokio::test]
async fn a_path_cannot_leave_its_root() {
    for place in Place::both().await {
        place.home.write("outside/people.csv", "id,name\n1,Out\n");
        place.home.write("town/data/people.csv", "id,name\n2,In\n");
        for url in ["../outside", "data/../../outside/people.csv"] {
            declare(&place, &format!("url: {url}, format: CSV"));
            assert_eq!(place.run(&[]).code, 2);
            assert!(place.message().contains("leads out of"), "{}", place.message());
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(
            place.home.path().join("outside/people.csv"),
            place.home.path().join("town/data/link.csv"),
        )
        .unwrap();
        declare(&place, "url: data, format: CSV");
        place.read();
        assert_eq!(place.people().await, ["2 In"]);
    }
}
