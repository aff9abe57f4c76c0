//! A way to a server that takes its time: every byte arrives later by so much, in both directions.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// A port of 127.0.0.1 that leads to another one over a distance.
pub async fn before(port: u16, delay: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let here = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(join(client, port, delay));
        }
    });
    Ok(here)
}

async fn join(client: TcpStream, port: u16, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    carry(from_client, to_server, delay);
    carry(from_server, to_client, delay);
    Ok(())
}

/// As many bytes as come may be on their way at once.
fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (depart, mut arrive) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            let _ = depart.send((Instant::now() + delay, bytes[..count].to_vec()));
        }
    });
    tokio::spawn(async move {
        while let Some((at, bytes)) = arrive.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}
