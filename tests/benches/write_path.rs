//! One durable write beside its floor: `cargo bench -p raftd-tests --bench write_path`.
//!
//! The floor is what the path of a write cannot do without: a round trip from the client to the leader, one from the
//! leader to a follower, and one `fdatasync` while the other two nodes sync as well. Each part is measured here, in the
//! same run, in alternation with the real thing, and with the same layout: every party a thread that sleeps until it is
//! woken, its sockets on a tokio current-thread runtime, its disk on a file that was filled beforehand. The two ends of a
//! round trip stand on two cores, as client, leader and follower do; on one core nobody has to be woken, and the same round
//! trip costs a quarter (it is printed too).
//!
//! Prints medians in microseconds and their ratio. Machines drift; only figures of one run compare.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kv_client::{Client, ClientConfig};
use raftd_tests::{Cluster, programs};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// How often everything is measured, in alternation.
const ROUNDS: usize = 5;
/// Measurements a round.
const OPERATIONS: usize = 2_000;
/// About a request with a key of 16 bytes and a value of 128.
const REQUEST_BYTES: usize = 240;
/// About a reply.
const REPLY_BYTES: usize = 48;
/// What a lone write takes in the log.
const BATCH_BYTES: usize = 512;
/// The room each disk writes to, in a circle.
const FILE_BYTES: usize = 16 << 20;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs every bench with this flag, to see that it starts; measuring would only take time.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let endpoint = cluster.node(leader).address().to_owned();
    let runtime = current_thread()?;
    let client = runtime.block_on(async { Client::connect(ClientConfig::new([endpoint])) })?;
    let (near, far) = (start_echo(0)?, start_echo(1)?);
    let folder = programs::folder();

    let mut rows = Vec::new();
    for round in 0..=ROUNDS {
        let on_one_core = median(pinned(0, || measure_round_trips(&runtime, near))?);
        let round_trip = median(pinned(0, || measure_round_trips(&runtime, far))?);
        let sync = median(measure_syncs(folder.path())?);
        let write = median(measure_writes(&runtime, &client)?);
        // The first round warms everything up.
        if round > 0 {
            let floor = round_trip * 2 + sync;
            println!(
                "round {round}: round trip {} us (one core {} us), fdatasync (3 at once) {} us, floor {} us; set p50 {} us, {:.2} x floor",
                round_trip.as_micros(),
                on_one_core.as_micros(),
                sync.as_micros(),
                floor.as_micros(),
                write.as_micros(),
                write.as_secs_f64() / floor.as_secs_f64(),
            );
            rows.push((floor, write));
        }
    }
    let floor = median(rows.iter().map(|(floor, _)| *floor).collect());
    let write = median(rows.iter().map(|(_, write)| *write).collect());
    let ratio = write.as_secs_f64() / floor.as_secs_f64();
    println!(
        "median: floor {} us, set p50 {} us, {ratio:.2} x floor (durability: fdatasync on a majority)",
        floor.as_micros(),
        write.as_micros()
    );
    Ok(())
}

fn current_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

/// Does `measure` on core `core` alone; on all of before again afterwards.
fn pinned<T>(core: usize, measure: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    let before = sched_getaffinity(None)?;
    pin(core)?;
    let measured = measure();
    sched_setaffinity(None, &before)?;
    measured
}

/// Keeps this thread on core `core`, if the machine has as many.
fn pin(core: usize) -> std::io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    match sched_setaffinity(None, &cores) {
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// A server on core `core` that answers every request of one size with a reply of another.
fn start_echo(core: usize) -> std::io::Result<SocketAddr> {
    let listener = StdListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    thread::spawn(move || -> std::io::Result<()> {
        pin(core)?;
        current_thread()?.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let mut request = [0; REQUEST_BYTES];
                while stream.read_exact(&mut request).await.is_ok() {
                    stream.write_all(&[1; REPLY_BYTES]).await?;
                }
            }
        })
    });
    Ok(address)
}

fn measure_round_trips(runtime: &Runtime, echo: SocketAddr) -> std::io::Result<Vec<Duration>> {
    runtime.block_on(async {
        let mut stream = TcpStream::connect(echo).await?;
        stream.set_nodelay(true)?;
        let mut samples = Vec::with_capacity(OPERATIONS);
        for _ in 0..OPERATIONS {
            let began = Instant::now();
            stream.write_all(&[2; REQUEST_BYTES]).await?;
            stream.read_exact(&mut [0; REPLY_BYTES]).await?;
            samples.push(began.elapsed());
        }
        Ok(samples)
    })
}

/// Three disks that sync at the same time, as three nodes do for one write; how long each write and sync takes, without
/// waking the thread that does it.
fn measure_syncs(folder: &Path) -> anyhow::Result<Vec<Duration>> {
    let (done, finished) = mpsc::sync_channel(3);
    let mut disks = Vec::new();
    for disk in 0..3 {
        let path = folder.join(format!("disk-{disk}"));
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.write_all(&vec![0xa5; FILE_BYTES])?;
        file.sync_all()?;
        let (job, jobs) = mpsc::sync_channel::<u64>(1);
        let done = done.clone();
        thread::spawn(move || -> std::io::Result<()> {
            for offset in jobs {
                let began = Instant::now();
                file.write_all_at(&[0x5a; BATCH_BYTES], offset)?;
                file.sync_data()?;
                // The measurement may be over.
                let _ = done.send(began.elapsed());
            }
            Ok(())
        });
        disks.push(job);
    }
    let mut samples = Vec::with_capacity(OPERATIONS * disks.len());
    for operation in 0..OPERATIONS {
        let offset = (operation * BATCH_BYTES % FILE_BYTES) as u64;
        for disk in &disks {
            disk.send(offset)?;
        }
        for _ in &disks {
            samples.push(finished.recv()?);
        }
    }
    Ok(samples)
}

fn measure_writes(runtime: &Runtime, client: &Client) -> anyhow::Result<Vec<Duration>> {
    runtime.block_on(async {
        let value = vec![b'v'; 128];
        let mut samples = Vec::with_capacity(OPERATIONS);
        for operation in 0..OPERATIONS {
            let key = format!("{:016}", operation * 7919 % 100_000);
            let began = Instant::now();
            client.set(key, value.clone()).await?;
            samples.push(began.elapsed());
        }
        Ok(samples)
    })
}
