use std::path::PathBuf;

use tokio::time::Instant;

use super::*;

/// Long enough for any machine.
const LIMIT: Duration = Duration::from_secs(20);

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

/// A control socket that answers each command with itself, backwards.
async fn echoing() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl");
    let mut control = Control::new(Some(bind(&Endpoint::Unix(path.clone())).unwrap())).unwrap();
    tokio::spawn(async move {
        loop {
            match control.next().await {
                News::Client(stream, peer) => {
                    assert_eq!(peer, None);
                    control.serve(stream);
                }
                News::Request(request) => {
                    let answer = request.line.chars().rev().collect();
                    let _ = request.reply.send(answer);
                }
            }
        }
    });
    Fixture { _folder: folder, path }
}

async fn ask(path: &Path, command: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(command).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_connection_is_one_line_and_one_answer() {
    let fixture = echoing().await;
    assert_eq!(ask(&fixture.path, b"abc\r\nmore\n").await, "cba");
    assert_eq!(ask(&fixture.path, b"abc\n").await, "cba");
    let long = ask(&fixture.path, &[b'x'; LINE_BYTES_MAX]).await;
    assert_eq!(long.len(), LINE_BYTES_MAX);
}

#[tokio::test]
async fn a_command_in_pieces_is_one_command() {
    let fixture = echoing().await;
    let mut stream = UnixStream::connect(&fixture.path).await.unwrap();
    for piece in ["a", "b", "c\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "cba");
}

#[tokio::test]
async fn silent_clients_neither_stop_others_nor_keep_their_place() {
    let fixture = echoing().await;
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..2 * CLIENTS_MAX {
        silent.push(UnixStream::connect(&fixture.path).await.unwrap());
    }
    assert_eq!(ask(&fixture.path, b"abc\n").await, "cba");
    // The first ones had to make room.
    let mut nothing = [0; 1];
    assert_eq!(timeout(LIMIT, silent[0].read(&mut nothing)).await.unwrap().unwrap_or(0), 0);
    assert!(begun.elapsed() < READ_PATIENCE);
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_a_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl");
    let endpoint = Endpoint::Unix(path.clone());
    drop(bind(&endpoint).unwrap());
    assert!(path.exists());
    drop(bind(&endpoint).unwrap());
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(bind(&Endpoint::Unix(file.clone())).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
