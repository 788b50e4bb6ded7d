//! A long-lived session: a line every so often, each of which must come back.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::request::{Answer, Failure, connect};
use super::{SessionFate, Settings, unix_ms};

/// A session whose line has not come back after this time is dead as far as its user is concerned. Longer than the
/// slowest take-over that the lab measures (ucarp, 5 s), so that what ends a session is what really happened to it.
const PATIENCE: Duration = Duration::from_secs(10);
/// A session that waits for its line for so long when the run ends is not called up.
const SILENT: Duration = Duration::from_secs(1);

/// Runs until the session ends or `stop` changes.
pub(super) async fn run(name: String, settings: Settings, mut stop: watch::Receiver<bool>) -> SessionFate {
    let mut fate =
        SessionFate { session: name, server: String::new(), fate: "up".to_owned(), exchanges: 0, unix_ms: 0 };
    let mut heard = Instant::now();
    let ended = tokio::select! {
        ended = live(&settings, &mut fate, &mut heard) => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    if let Some(failure) = ended {
        fate.fate = failure;
    } else if heard.elapsed() > SILENT {
        "silent".clone_into(&mut fate.fate);
    }
    fate.unix_ms = unix_ms();
    fate
}

/// Gives the reason of the session's end.
async fn live(settings: &Settings, fate: &mut SessionFate, heard: &mut Instant) -> String {
    let stream = match timeout(PATIENCE, connect(settings.target, None)).await {
        Err(_) => return "connect timeout".to_owned(),
        Ok(Err(error)) => return format!("connect: {}", Failure::of(&error).name()),
        Ok(Ok(stream)) => stream,
    };
    let mut lines = BufReader::new(stream);
    let mut every = interval(settings.session_interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut request = format!("SESSION {}\n", fate.session);
    loop {
        every.tick().await;
        let line = match timeout(PATIENCE, exchange(&mut lines, request.as_bytes())).await {
            Err(_) => return "timeout".to_owned(),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return "eof".to_owned(),
            Ok(Err(error)) => return Failure::of(&error).name(),
            Ok(Ok(line)) => line,
        };
        match Answer::parse(line.as_bytes()) {
            Some(answer) if fate.exchanges == 0 => fate.server = answer.server,
            _ if fate.exchanges > 0 && line == request => {}
            _ => return format!("wrong answer {line:?}"),
        }
        fate.exchanges += 1;
        *heard = Instant::now();
        request = format!("line {}\n", fate.exchanges);
    }
}

async fn exchange(stream: &mut BufReader<TcpStream>, request: &[u8]) -> io::Result<String> {
    stream.get_mut().write_all(request).await?;
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}
