//! Many connections that do what connections do: stall, stop half way, break off.

use super::*;

/// The same rolls each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, highest: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % (highest + 1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll(255) as u8).collect()
    }

    /// A short sleep, or none.
    async fn stall(&mut self) {
        if self.roll(9) == 0 {
            tokio::time::sleep(Duration::from_millis(self.roll(20) as u64)).await;
        }
    }
}

async fn send(mut to: impl AsyncWriteExt + Unpin, bytes: Vec<u8>, mut dice: Dice) {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (part, other) = rest.split_at((1 + dice.roll(150_000)).min(rest.len()));
        to.write_all(part).await.unwrap();
        rest = other;
        dice.stall().await;
    }
    to.shutdown().await.unwrap();
}

async fn receive(mut from: impl AsyncReadExt + Unpin, mut dice: Dice) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 200_000];
    loop {
        let room = 1 + dice.roll(buffer.len() - 1);
        match from.read(&mut buffer[..room]).await.unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
        dice.stall().await;
    }
}

/// Says which run it is in eight bytes, and what both sides then send follows from that.
fn sizes(run: u64) -> (Dice, usize, usize) {
    let mut dice = Dice(run.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let size = |dice: &mut Dice| match dice.roll(3) {
        0 => dice.roll(10),
        1 => dice.roll(70_000),
        _ => dice.roll(1_500_000),
    };
    let (up, down) = (size(&mut dice), size(&mut dice));
    (dice, up, down)
}

async fn server(stream: TcpStream) {
    let (mut from, to) = stream.into_split();
    let Ok(run) = from.read_u64().await else { return };
    let (mut dice, up, down) = sizes(run);
    let (expected, answer) = (dice.bytes(up), dice.bytes(down));
    let sender = tokio::spawn(send(to, answer, Dice(run | 1)));
    assert!(receive(from, Dice((run * 3) | 1)).await == expected, "run {run}: {up} bytes up");
    sender.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_survive_stalls_half_closes_and_the_resets_of_others() {
    let (sender, mut failed) = tokio::sync::mpsc::channel(64);
    let checked = backend(move |stream| {
        let sender = sender.clone();
        async move {
            if tokio::spawn(server(stream)).await.is_err() {
                let _ = sender.try_send(());
            }
        }
    });
    let stand = Stand::running(&[checked.await]);
    let mut tasks = Vec::new();
    for run in 1..=120u64 {
        let mut stream = stand.connect().await;
        if run % 7 == 0 {
            // One that breaks off: in the middle of everything that the others do.
            stream.set_zero_linger().unwrap();
            stream.write_all(&run.to_be_bytes()[..5]).await.unwrap();
            continue;
        }
        tasks.push(tokio::spawn(async move {
            stream.write_all(&run.to_be_bytes()).await.unwrap();
            let (mut dice, up, down) = sizes(run);
            let (request, expected) = (dice.bytes(up), dice.bytes(down));
            let (from, to) = stream.into_split();
            let sender = tokio::spawn(send(to, request, Dice((run * 5) | 1)));
            assert!(receive(from, Dice((run * 11) | 1)).await == expected, "run {run}: {down} bytes down");
            sender.await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(failed.try_recv().is_err(), "a server got something else");
    until("all are over", || stand.server_stats(0).connections == 0).await;
    assert_eq!(stand.stats().aborted, 17);
}
