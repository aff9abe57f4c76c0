//! A mail server of a few lines that notes when each message has arrived, and the processes that send to it.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

pub type Arrivals = Arc<Mutex<Vec<Instant>>>;

async fn serve(stream: TcpStream, arrivals: Arrivals) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 clock.example\r\n").await?;
    let mut is_content = false;
    while let Some(line) = lines.next_line().await? {
        if is_content && line != "." {
            continue;
        }
        if is_content {
            arrivals.lock().expect("a lock").push(Instant::now());
            is_content = false;
            write.write_all(b"250 taken\r\n").await?;
        } else if line.starts_with("EHLO") {
            write.write_all(b"250-clock.example\r\n250 PIPELINING\r\n").await?;
        } else if line == "DATA" {
            is_content = true;
            write.write_all(b"354 go on\r\n").await?;
        } else if line == "QUIT" {
            return write.write_all(b"221 bye\r\n").await;
        } else {
            write.write_all(b"250 ok\r\n").await?;
        }
    }
    Ok(())
}

pub async fn server(arrivals: Arrivals) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, arrivals.clone()));
        }
    });
    port
}

pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn campanile(folder: &Path, args: &[&str], log: &str) -> Running {
    let log = fs::File::create(folder.join(log)).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_campanile"));
    command.current_dir(folder).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().expect("campanile"))
}

/// People, and what they are told; the channels and the campaigns are each benchmark's own.
pub fn write_town(folder: &Path, people: u64) {
    fs::create_dir_all(folder.join("town/data")).expect("a folder");
    let rows: String = (1..=people).map(|id| format!("{id},p{id}@example.com\n")).collect();
    fs::write(folder.join("town/data/people.csv"), format!("id,email\n{rows}")).expect("rows");
    let manifest = r#"apiVersion: campanile.dev/v1alpha1
kind: Dataset
metadata: {name: town}
spec:
  entities:
  - name: person
    key: [id]
    fields:
    - {name: id, type: Integer}
    - {name: email, type: String}
    source: {files: {url: data, format: CSV}}
  profile: {entity: person, addresses: {email: email}}
  topics:
  - {name: service, category: Transactional}
---
apiVersion: campanile.dev/v1alpha1
kind: MessageTemplate
metadata: {name: hello}
spec: {email: {subject: "Hello {{ person.id }}", text: "Hello {{ person.id }}"}}
"#;
    fs::write(folder.join("town/town.yaml"), manifest).expect("a manifest");
}
