//! The SMTP client alone, against what `smtp-source -d` can do and against what a distance allows.
//!
//! ```sh
//! cargo bench --bench smtp                     # MESSAGES=200000 unless said; FAR_MESSAGES=5000
//! ```
//!
//! Client and `smtp-sink` share the machine's cores, and so do `smtp-source` and its sink, in the same run: the claim is
//! the ratio, not the figure.

#[path = "smtp/distance.rs"]
mod distance;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use campanile::{
    api::channel::Tls,
    send::channel::{
        Channel, Content, Delivery, Done, Envelope, Mail,
        smtp::{Settings, Smtp, Timeouts},
    },
};
use tokio::sync::mpsc::unbounded_channel;

const CONNECTIONS: usize = 20;
const MESSAGE_BYTES: usize = 2000;
/// As many as the engine may have under way for such a channel.
const UNDER_WAY_MAX: usize = 1280;
const FAR_CONNECTIONS: usize = 10;
const FAR_DELAY: Duration = Duration::from_millis(10);
/// MAIL, RCPT, DATA, the content, and the pause between two messages of a client that waits for each answer.
const LOCKSTEP_ROUND_TRIPS: f64 = 5.0;

struct Sink {
    child: Child,
    port: u16,
}

impl Sink {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let mut command = Command::new("/usr/sbin/smtp-sink");
        command.args(["-u", "nobody", &format!("127.0.0.1:{port}"), "1000"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("smtp-sink of Postfix");
        let sink = Self { child, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        sink
    }

    fn cpu_us(&self) -> f64 {
        let (user, system) = cpu_us(&self.child.id().to_string());
        user + system
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time of a process, in microseconds.
fn cpu_us(process: &str) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or("");
    // Fields 14 and 15 of proc(5), in clock ticks of 10 ms.
    let mut ticks = behind_name.split_whitespace().skip(11).map(|n| n.parse::<f64>().unwrap_or(0.0) * 10_000.0);
    (ticks.next().unwrap_or(0.0), ticks.next().unwrap_or(0.0))
}

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn message() -> Envelope {
    let line = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor.\r\n";
    let mut text = "From: <a@example.com>\r\nTo: <b@example.com>\r\nSubject: x\r\n\r\n".to_owned();
    while text.len() + line.len() < MESSAGE_BYTES {
        text += line;
    }
    let (from, to) = ("town@example.com".to_owned(), "somebody@example.org".to_owned());
    let content = Content::Mail(Mail { from, to, bytes: text.into_bytes() });
    Envelope {
        id: "1".to_owned(),
        reference: String::new(),
        content,
        folder: PathBuf::new(),
        permission: Default::default(),
    }
}

fn client(port: u16, connections: usize) -> Smtp {
    Smtp::new(Settings {
        host: "127.0.0.1".to_owned(),
        port,
        tls: Tls::None,
        login: None,
        connections,
        timeouts: Timeouts::default(),
        roots: vec![],
    })
}

/// Messages per second. A task of the runtime, as the engine's lanes are.
async fn ours(smtp: Smtp, messages: u32) -> f64 {
    let (done, mut ended) = unbounded_channel::<Done>();
    let start = Instant::now();
    let (mut under_way, mut sent) = (0, 0);
    let message = message();
    for tag in 0..messages {
        if under_way == UNDER_WAY_MAX {
            ended.recv().await.expect("an end");
            under_way -= 1;
            sent += 1;
        }
        while let Ok(done) = ended.try_recv() {
            assert!(matches!(done.delivery, Delivery::Sent { .. }), "{:?}", done.delivery);
            under_way -= 1;
            sent += 1;
        }
        smtp.submit(u64::from(tag), message.clone(), &done).await;
        under_way += 1;
    }
    while sent < messages {
        ended.recv().await.expect("an end");
        sent += 1;
    }
    f64::from(messages) / start.elapsed().as_secs_f64()
}

/// Messages per second of `smtp-source -d` with as many sessions, and the CPU of its sink for each.
fn peer(messages: u32) -> (f64, f64) {
    let sink = Sink::start();
    let start = Instant::now();
    let status = Command::new("/usr/sbin/smtp-source")
        .args(["-d", "-s", &CONNECTIONS.to_string(), "-m", &messages.to_string(), "-l", &MESSAGE_BYTES.to_string()])
        .args(["-f", "town@example.com", "-t", "somebody@example.org", &format!("127.0.0.1:{}", sink.port)])
        .status()
        .expect("smtp-source of Postfix");
    assert!(status.success());
    (f64::from(messages) / start.elapsed().as_secs_f64(), sink.cpu_us() / f64::from(messages))
}

async fn near(messages: u32) {
    println!("{messages} messages of {MESSAGE_BYTES} bytes, {CONNECTIONS} connections, to smtp-sink");
    let (before, _) = peer(messages);
    let sink = Sink::start();
    let used = cpu_us("self");
    let rate = tokio::spawn(ours(client(sink.port, CONNECTIONS), messages)).await.expect("all messages");
    let (now, sink_us) = (cpu_us("self"), sink.cpu_us());
    drop(sink);
    let (after, peer_sink_us) = peer(messages);
    let peer = f64::midpoint(before, after);
    println!("  campanile      {rate:>9.0} messages/s");
    println!("  smtp-source -d {peer:>9.0} messages/s ({before:.0} before, {after:.0} after)");
    println!("  ratio          {:>9.2}", rate / peer);
    let each = |us: f64| us / f64::from(messages);
    let (user, system) = (each(now.0 - used.0), each(now.1 - used.1));
    println!("  CPU microseconds per message");
    println!("    client       {user:>9.1} its own, {system:.1} in system calls: one send and one receive");
    println!("    smtp-sink    {:>9.1}, of smtp-source -d {peer_sink_us:.1}", each(sink_us));
}

async fn far(messages: u32) {
    println!("{messages} messages over {FAR_CONNECTIONS} connections, {FAR_DELAY:?} away in each direction");
    let sink = Sink::start();
    let port = distance::before(sink.port, FAR_DELAY).await.expect("a way");
    let rate = tokio::spawn(ours(client(port, FAR_CONNECTIONS), messages)).await.expect("all messages");
    let round_trip = 2.0 * FAR_DELAY.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "ten")]
    let lockstep = FAR_CONNECTIONS as f64 / (LOCKSTEP_ROUND_TRIPS * round_trip);
    println!("  campanile      {rate:>9.0} messages/s");
    println!("  five round trips for each would allow {lockstep:.0} messages/s");
    println!("  ratio          {:>9.2}", rate / lockstep);
    assert!(rate >= 3.0 * lockstep, "the distance is paid for more often than it must be");
}

#[tokio::main]
async fn main() {
    near(number("MESSAGES", 200_000)).await;
    far(number("FAR_MESSAGES", 5_000)).await;
}
