//! A provider that speaks HTTP/1.1 on a socket of its own, so that it can also do what servers do not: say nothing, say a
//! part, or hang up.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection is closed behind the request.
    HangUp,
    /// The connection stays open, and nothing comes.
    Nothing,
}

impl Reply {
    pub fn of(status: u16, body: impl ToString) -> Self {
        Self::Answer(status, vec![], body.to_string())
    }
}

pub struct Provider {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    pub async fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (known, reply) = (asked.clone(), Arc::new(reply));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (known, reply) = (known.clone(), reply.clone());
                tokio::spawn(async move {
                    // Who hangs up is the other side's matter.
                    let _ = serve(stream, &known, &*reply).await;
                });
            }
        });
        Ok(Self { port, asked, task })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    known: &Mutex<Vec<Asked>>,
    reply: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = vec![];
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let mut first = lines.first().context("no request")?.split(' ');
        let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
        let headers: BTreeMap<String, String> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let asked = Asked { method, path, headers, body: String::from_utf8(body)? };
        known.lock().unwrap().push(asked.clone());
        match reply(&asked) {
            Reply::HangUp => return Ok(()),
            Reply::Nothing => std::future::pending().await,
            Reply::Answer(status, headers, body) => {
                let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await?;
                stream.flush().await?;
            }
        }
    }
}
