//! One bound connection: what goes out waits for its answer by number, what comes in is answered once it is on the disk.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rusmpp_core::{
    CommandId, CommandStatus,
    pdus::borrowed::{BindTransceiver, DeliverSmResp, Pdu},
    values::InterfaceVersion,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Settings,
    pdu::{Body, Frame, bytes_of, c_string, c_text, numbered},
    told::{Told, Word},
    word,
};
use crate::send::channel::{Delivery, Permission, Refusal};

/// A connection that is silent for so many times the pause between two questions is lost.
const SILENCES_MAX: u32 = 3;
/// What comes in is recorded in so many tasks at once; what comes behind them waits in the connection.
const TOLD_AT_ONCE: usize = 64;
/// PDUs that wait to be written.
const QUEUE: usize = 64;
/// A centre that is alive takes its leave within this.
const UNBIND_TIMEOUT: Duration = Duration::from_secs(1);
/// Of the bind; others come behind it.
const FIRST: u32 = 1;
const SEQUENCE_MAX: u32 = 0x7fff_ffff;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub struct Link {
    asks: mpsc::Sender<Ask>,
    is_closed: Arc<AtomicBool>,
    answer_timeout: Duration,
}

/// A message on its way to the wire.
struct Ask {
    /// Of its PDU, which has no number yet.
    bytes: Vec<u8>,
    permission: Permission,
    /// Whether its bytes may have left.
    is_begun: Arc<AtomicBool>,
    answer: oneshot::Sender<Submitted>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The centre's status, and its id of the message.
    Taken(CommandStatus, String),
    /// It was not begun, because it may not go.
    Unsent,
    /// It was not begun: why.
    Unbegun(String),
    /// The centre may have it: why nobody knows.
    Lost(String),
}

type Pending = Arc<Mutex<HashMap<u32, oneshot::Sender<Submitted>>>>;

impl Link {
    /// Connects and binds.
    ///
    /// # Errors
    /// Why it cannot; no message is at fault.
    pub async fn open(
        settings: &Settings,
        tls: Option<Arc<ClientConfig>>,
        told: Option<Arc<dyn Told>>,
    ) -> Result<Self, Delivery> {
        let wait = settings.timeouts.open;
        let mut stream = timeout(wait, connect(settings, tls)).await.unwrap_or_else(|_| Err(late("connecting")))?;
        timeout(wait, bind(&mut stream, settings)).await.unwrap_or_else(|_| Err(late("the bind")))?;
        let (asks, asked) = mpsc::channel(QUEUE);
        let is_closed = Arc::<AtomicBool>::default();
        let (read, write) = tokio::io::split(stream);
        let (replies, replied) = mpsc::channel(QUEUE);
        let pending = Pending::default();
        let sequence = Arc::new(AtomicU32::new(FIRST + 1));
        let reader =
            Reader { pending: pending.clone(), replies, told, at_once: Arc::new(Semaphore::new(TOLD_AT_ONCE)) };
        let writer = Writer { pending: pending.clone(), sequence, enquire: settings.timeouts.enquire };
        let (closed, silence) = (is_closed.clone(), settings.timeouts.enquire.saturating_mul(SILENCES_MAX));
        tokio::spawn(async move {
            let why = tokio::select! {
                why = reader.run(read, silence) => why,
                why = writer.run(write, asked, replied) => why,
            };
            closed.store(true, Ordering::SeqCst);
            tracing::debug!(why, "a link to a message centre ended");
            // Nobody writes any more: what is without an answer gets none, and what still waits to be written finds nobody.
            pending.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        Ok(Self { asks, is_closed, answer_timeout: settings.timeouts.answer })
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub async fn submit(&self, bytes: Vec<u8>, permission: Permission) -> Submitted {
        let is_begun = Arc::<AtomicBool>::default();
        let (answer, answered) = oneshot::channel();
        let ask = Ask { bytes, permission, is_begun: is_begun.clone(), answer };
        let ended = || "the link ended".to_owned();
        if self.asks.send(ask).await.is_err() {
            return Submitted::Unbegun(ended());
        }
        match timeout(self.answer_timeout, answered).await {
            Ok(Ok(submitted)) => submitted,
            Ok(Err(_)) if is_begun.load(Ordering::SeqCst) => Submitted::Lost(ended()),
            Ok(Err(_)) => Submitted::Unbegun(ended()),
            // The writer may be about to write it, whether or not it has begun.
            Err(_) => Submitted::Lost(format!("no answer within {} s", self.answer_timeout.as_secs())),
        }
    }
}

fn late(stage: &str) -> Delivery {
    Delivery::later(Refusal::ConnectFailed, &format!("{stage}: no answer in time"))
}

fn lost(error: io::Error) -> Delivery {
    Delivery::later(Refusal::ConnectFailed, &error.to_string())
}

async fn connect(settings: &Settings, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Stream>, Delivery> {
    let stream = TcpStream::connect((settings.host.as_str(), settings.port)).await.map_err(lost)?;
    // What is written waits for its answer: Nagle's algorithm would hold it back.
    stream.set_nodelay(true).map_err(lost)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let failed = |text: String| Delivery::later(Refusal::TlsFailed, &text);
    let name = ServerName::try_from(settings.host.clone()).map_err(|error| failed(error.to_string()))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| failed(error.to_string()))?;
    Ok(Box::new(stream))
}

async fn bind(stream: &mut Box<dyn Stream>, settings: &Settings) -> Result<(), Delivery> {
    let unfit = |text: String| Delivery::later(Refusal::AuthFailed, &text);
    let texts = [&settings.system_id, &settings.password, &settings.system_type].map(|text| c_text(text));
    let bind = BindTransceiver::builder()
        .system_id(c_string(&texts[0], "the system_id").map_err(unfit)?)
        .password(c_string(&texts[1], "the password").map_err(unfit)?)
        .system_type(c_string(&texts[2], "the system type").map_err(unfit)?)
        .interface_version(InterfaceVersion::Smpp3_4)
        .build();
    stream.write_all(&bytes_of(CommandStatus::EsmeRok, FIRST, bind)).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    loop {
        let frame = Frame::read(stream).await.map_err(lost)?;
        if !frame.is_response() || frame.sequence != FIRST {
            continue;
        }
        let reason = match frame.status {
            CommandStatus::EsmeRok if frame.id == u32::from(CommandId::BindTransceiverResp) => return Ok(()),
            CommandStatus::EsmeRalybnd | CommandStatus::EsmeRthrottled | CommandStatus::EsmeRsyserr => {
                Refusal::ConnectFailed
            }
            _ => Refusal::AuthFailed,
        };
        return Err(Delivery::later(reason, &format!("the bind: {}", word(frame.status))));
    }
}

struct Writer {
    pending: Pending,
    sequence: Arc<AtomicU32>,
    enquire: Duration,
}

impl Writer {
    /// Writes until the connection is lost, or nobody wants to write any more; why it ended.
    async fn run(
        self,
        mut to: WriteHalf<Box<dyn Stream>>,
        mut asks: mpsc::Receiver<Ask>,
        mut replies: mpsc::Receiver<Vec<u8>>,
    ) -> String {
        let mut tick = tokio::time::interval(self.enquire);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            let bytes = tokio::select! {
                biased;
                Some(reply) = replies.recv() => reply,
                _ = tick.tick() => bytes_of(CommandStatus::EsmeRok, self.next(), Pdu::EnquireLink),
                ask = asks.recv() => match ask {
                    Some(ask) => match self.begin(ask) {
                        Some(bytes) => bytes,
                        None => continue,
                    },
                    None => {
                        let unbind = bytes_of(CommandStatus::EsmeRok, self.next(), Pdu::Unbind);
                        let _ = put(&mut to, &unbind).await;
                        tokio::time::sleep(UNBIND_TIMEOUT).await;
                        return "it is not needed any more".to_owned();
                    }
                },
            };
            if let Err(error) = put(&mut to, &bytes).await {
                return error.to_string();
            }
        }
    }

    /// Its bytes, if it may go and somebody waits for its answer.
    fn begin(&self, ask: Ask) -> Option<Vec<u8>> {
        let Ask { bytes, permission, is_begun, answer } = ask;
        if answer.is_closed() {
            return None;
        }
        if !permission.is_given() {
            let _ = answer.send(Submitted::Unsent);
            return None;
        }
        let sequence = self.next();
        is_begun.store(true, Ordering::SeqCst);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers that nobody waits for any more.
        pending.retain(|_, answer| !answer.is_closed());
        pending.insert(sequence, answer);
        Some(numbered(bytes, sequence))
    }

    fn next(&self) -> u32 {
        let next = |sequence: u32| Some(if sequence >= SEQUENCE_MAX { FIRST } else { sequence + 1 });
        self.sequence.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap_or(FIRST)
    }
}

async fn put(to: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

struct Reader {
    pending: Pending,
    replies: mpsc::Sender<Vec<u8>>,
    told: Option<Arc<dyn Told>>,
    at_once: Arc<Semaphore>,
}

impl Reader {
    /// Reads until the connection is lost; why it ended.
    async fn run(self, mut from: ReadHalf<Box<dyn Stream>>, silence: Duration) -> String {
        loop {
            let frame = match timeout(silence, Frame::read(&mut from)).await {
                Ok(Ok(frame)) => frame,
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("nothing came for {} s", silence.as_secs()),
            };
            if let Some(end) = self.take(frame).await {
                return end;
            }
        }
    }

    /// Some: the connection ends, and why.
    async fn take(&self, frame: Frame) -> Option<String> {
        let ok = CommandStatus::EsmeRok;
        if frame.is_response() {
            let id = match frame.body {
                Some(Body::Taken(id)) => id,
                Some(Body::UnbindResp) => return Some("the centre has unbound it".to_owned()),
                _ => String::new(),
            };
            let answer = self.pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.sequence);
            // A refusal of what is not understood has no status of its own, and takes nothing.
            let is_nack = frame.id == u32::from(CommandId::GenericNack);
            let status = if is_nack && frame.status == ok { CommandStatus::EsmeRinvbndsts } else { frame.status };
            if let Some(answer) = answer {
                let _ = answer.send(Submitted::Taken(status, id));
            }
            return None;
        }
        let reply = match frame.body {
            Some(Body::EnquireLink) => bytes_of(ok, frame.sequence, Pdu::EnquireLinkResp),
            Some(Body::Unbind) => {
                let _ = self.replies.send(bytes_of(ok, frame.sequence, Pdu::UnbindResp)).await;
                return Some("the centre unbinds it".to_owned());
            }
            Some(Body::Told(word)) => {
                self.hear(word, frame.sequence).await;
                return None;
            }
            // It cannot be read, and will not be the next time.
            None if frame.id == u32::from(CommandId::DeliverSm) => {
                bytes_of(CommandStatus::EsmeRxPAppn, frame.sequence, DeliverSmResp::default())
            }
            Some(Body::AlertNotification) => return None,
            _ => bytes_of(CommandStatus::EsmeRinvcmdid, frame.sequence, Pdu::GenericNack),
        };
        if self.replies.send(reply).await.is_err() {
            return Some("nobody writes any more".to_owned());
        }
        None
    }

    /// Hands on what was told, and answers it when it is on the disk: until then the centre keeps it.
    async fn hear(&self, said: Word, sequence: u32) {
        let Ok(place) = self.at_once.clone().acquire_owned().await else { return };
        let (told, replies) = (self.told.clone(), self.replies.clone());
        tokio::spawn(async move {
            let _place = place;
            let status = match (&told, said) {
                (Some(told), Word::Receipt(receipt)) => told.receipt(receipt).await,
                (Some(told), Word::Text { from, text }) => told.text(&from, &text).await,
                (Some(_), Word::Other) => Ok(()),
                (None, _) => Err("nobody listens".to_owned()),
            };
            let status = status.map_or_else(
                |error| {
                    tracing::warn!(error, "what a message centre tells is not taken; it will be told again");
                    CommandStatus::EsmeRxTAppn
                },
                |()| CommandStatus::EsmeRok,
            );
            let _ = replies.send(bytes_of(status, sequence, DeliverSmResp::default())).await;
        });
    }
}
