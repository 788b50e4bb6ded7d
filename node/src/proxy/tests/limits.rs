use std::io::{Read as _, Seek as _};
use std::process::Command;

use super::*;

async fn holding() -> SocketAddr {
    backend(|mut stream: TcpStream| async move {
        let _ = stream.write_all(b"x").await;
        let _ = stream.read_u8().await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_beyond_the_limit_wait_for_a_place() {
    let stand = Stand::limited(&[holding().await], Some(2));
    stand.apply();
    let (mut first, mut second) = (stand.connect().await, stand.connect().await);
    first.read_u8().await.unwrap();
    second.read_u8().await.unwrap();
    let mut third = stand.connect().await;
    // Each worker tells it for itself.
    until("it is logged", || stand.events_with("all places for clients are taken") >= 1).await;
    assert_eq!(stand.stats().accepted, 2);
    drop(first);
    assert_eq!(third.read_u8().await.unwrap(), b'x');
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_connections_end_and_cuts_the_rest_at_its_deadline() {
    let stand = Stand::running(&[holding().await]);
    let (mut ending, mut staying) = (stand.connect().await, stand.connect().await);
    ending.read_u8().await.unwrap();
    staying.read_u8().await.unwrap();
    let Stand { workers, listen, .. } = stand;
    let start = Instant::now();
    let stopping = tokio::task::spawn_blocking(move || workers.stop(Duration::from_millis(600)));
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(listen).await.is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
    }
    ending.write_all(b"y").await.unwrap();
    assert_eq!(ending.read(&mut [0; 1]).await.unwrap(), 0, "ends in good order");
    drop(ending);
    let cut = staying.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset);
    let report = stopping.await.unwrap();
    assert_eq!(report.cut, 1);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_without_connections_takes_no_time() {
    let stand = Stand::running(&[named("s0").await]);
    assert_eq!(stand.ask().await.unwrap(), "s0");
    let start = Instant::now();
    let Stand { workers, .. } = stand;
    let report = tokio::task::spawn_blocking(move || workers.stop(Duration::from_secs(20))).await.unwrap();
    assert_eq!(report.cut, 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_shows_that_it_turns() {
    let stand = Stand::running(&[]);
    assert_eq!(stand.workers.stats().workers.len(), 2);
    // Longer than what is asked below: a worker that turned only at its start would not pass.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let before: Vec<_> = stand.workers.turned().collect();
    until("each turns on", || before.iter().zip(stand.workers.turned()).all(|(before, now)| now > *before))
        .await;
    until("all turn", || stand.workers.stats().workers.iter().all(|worker| worker.turned_ms < 500)).await;
}

/// Says to the test's other process that it is the one with few descriptors.
const FEW_DESCRIPTORS: &str = "CYGNET_TEST_FEW_DESCRIPTORS";

/// Runs itself again in a process that may open few files.
#[test]
fn without_descriptors_clients_wait_and_no_server_is_blamed() {
    if std::env::var_os(FEW_DESCRIPTORS).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(with_few_descriptors());
    }
    let name = "proxy::tests::limits::without_descriptors_clients_wait_and_no_server_is_blamed";
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 80 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(FEW_DESCRIPTORS, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

async fn with_few_descriptors() {
    let stand = Stand::limited(&[named("s0").await], Some(1_000));
    stand.apply();
    // Opened while that is possible.
    let mut stat = std::fs::File::open("/proc/self/stat").unwrap();
    let last = TcpSocket::new_v4().unwrap();
    // A client takes four here: two at the proxy, one at each end. These get through or wait.
    let mut streams = Vec::new();
    while let Ok(stream) = TcpStream::connect(stand.listen).await {
        streams.push(stream);
    }
    // Needs no descriptor here, but one at the proxy. If there was one, and none for the server, it is refused already.
    streams.extend(last.connect(stand.listen).await.ok());
    until("it is logged", || stand.events_with("used up") + stand.events_with("could be started") > 0).await;
    let busy = cpu_ticks(&mut stat);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let spent = cpu_ticks(&mut stat) - busy;
    assert!(spent < 30, "{spent} of 60 ticks: somebody waits by running in circles");
    assert_eq!(stand.server_stats(0).blacklisted_ms, None, "it is not the server's fault");
    drop(streams);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match stand.ask().await {
            Ok(answer) if answer == "s0" => return,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// CPU time of this process, in hundredths of a second.
fn cpu_ticks(file: &mut std::fs::File) -> u64 {
    let mut stat = String::new();
    file.seek(io::SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut stat).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
