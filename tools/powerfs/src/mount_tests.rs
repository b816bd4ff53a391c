//! A real mount, where the machine allows one: stores through a mapping, syncs, a cut, and what a fresh mount shows.

use std::fs;
use std::os::unix::fs::FileExt;

use wal::segment::SegmentIdentity;
use wal::{FileDevice, SegmentSeq, Storage};

use super::*;
use crate::supply::{Kind, Trigger, lock};

struct Host {
    dir: tempfile::TempDir,
    images: Arc<Mutex<Images<HostFiles>>>,
    supply: Arc<Supply>,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = HostFiles::create(&dir.path().join("store")).expect("a store");
        fs::create_dir(dir.path().join("mount")).expect("a mount point");
        let owner = (getuid().as_raw(), getgid().as_raw());
        Self { dir, images: Arc::new(Mutex::new(Images::new(store, owner))), supply: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mount").join(name)
    }

    /// `None`, with a note, where the machine does not allow it.
    fn mount(&self) -> Option<Mount> {
        let mounted = Mount::new(Arc::clone(&self.images), &self.path(""), Arc::clone(&self.supply), 0);
        match mounted {
            Err(error @ (MountError::Device(_) | MountError::Mount { .. })) => {
                eprintln!("not run: {error}");
                None
            }
            mounted => Some(mounted.expect("mounted")),
        }
    }

    /// Mounts what a cut left.
    fn after_cut(&self, mounted: Mount, seed: u64) -> Mount {
        self.supply.take(1);
        mounted.take_away().expect("taken away");
        lock(&self.images).cut(seed).expect("cut");
        self.supply.give(1);
        self.mount().expect("mounted before")
    }
}

#[test]
fn a_cut_leaves_what_was_synced_and_drops_what_the_kernel_holds() {
    let host = Host::new();
    let Some(mut mounted) = host.mount() else { return };
    let file = File::options().read(true).write(true).create_new(true).open(host.path("a")).expect("created");
    file.write_all_at(&[1; 8192], 0).expect("written");
    file.sync_all().expect("synced");
    File::open(host.path("")).expect("opened").sync_all().expect("synced");
    for seed in 0..10 {
        let file = File::options().read(true).write(true).open(host.path("a")).expect("opened");
        file.write_all_at(&[2; 100], 4096).expect("written");
        fs::write(host.path("b"), "never synced").expect("written");
        fs::remove_file(host.path("b")).expect("removed");
        mounted = host.after_cut(mounted, seed);
        let bytes = fs::read(host.path("a")).expect("read");
        assert_eq!((bytes.len(), &bytes[..4096]), (8192, &[1; 4096][..]));
        assert!(bytes[4096..4196] == [1; 100] || bytes[4096..4196] == [2; 100]);
        assert!(fs::read(host.path("b")).is_ok_and(|text| text.len() <= 12) || !host.path("b").exists());
    }
    mounted.take_away().expect("taken away");
}

#[test]
fn stores_into_a_mapping_are_lost_unless_they_were_synced() {
    let host = Host::new();
    let Some(mounted) = host.mount() else { return };
    let dir = host.path("");
    let identity = SegmentIdentity { cluster_id: 1, node_id: 2, shard: 0, shard_count: 1 };
    FileDevice::create(&dir, identity, 1 << 20).expect("created");
    let mut device = FileDevice::open(&dir).expect("opened");
    let store = |device: &mut FileDevice, at, byte| device.bytes_mut(SegmentSeq::FIRST, at..at + 100).fill(byte);
    store(&mut device, 5000, 1);
    store(&mut device, 50_000, 1);
    device.sync_file(SegmentSeq::FIRST).expect("a file").sync_data().expect("synced");
    store(&mut device, 50_000, 2);
    store(&mut device, 500_000, 2);
    let mounted = host.after_cut(mounted, 3);
    drop(device);
    let device = FileDevice::open(&dir).expect("opened again");
    let bytes = device.bytes(SegmentSeq::FIRST);
    let shown = [5000, 50_000, 500_000].map(|at| bytes[at..at + 100].to_vec());
    assert_eq!(shown, [vec![1; 100], vec![1; 100], vec![0; 100]], "the kernel had written back nothing else");
    drop(device);
    mounted.take_away().expect("taken away");
}

#[test]
fn requests_without_power_hang_until_the_connection_ends() {
    let host = Host::new();
    let Some(mounted) = host.mount() else { return };
    fs::write(host.path("a"), "text").expect("written");
    let file = File::options().write(true).open(host.path("a")).expect("opened");
    host.supply.arm(1, Trigger { kind: Some(Kind::Sync), number: 1, is_after: false });
    let syncing = std::thread::spawn(move || file.sync_all());
    while !host.supply.has_gone() {
        std::thread::yield_now();
    }
    assert!(!syncing.is_finished(), "it waits");
    mounted.take_away().expect("taken away");
    assert!(syncing.join().expect("no panic").is_err());
}

#[test]
fn files_and_directories_are_as_on_any_file_system() {
    let host = Host::new();
    let Some(mounted) = host.mount() else { return };
    fs::create_dir_all(host.path("d/e")).expect("created");
    fs::write(host.path("d/e/f"), vec![3; 300_000]).expect("written");
    fs::rename(host.path("d/e/f"), host.path("g")).expect("moved");
    assert!(fs::remove_dir(host.path("d")).is_err(), "it is not empty");
    fs::remove_dir(host.path("d/e")).expect("removed");
    let file = File::options().write(true).open(host.path("g")).expect("opened");
    file.set_len(100).expect("cut off");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 5000).expect("extended");
    let bytes = fs::read(host.path("g")).expect("read");
    assert_eq!((bytes.len(), &bytes[..100], bytes[100]), (5000, &[3; 100][..], 0));
    let names = fs::read_dir(host.path("")).expect("listed").map(|entry| entry.expect("an entry").file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["d", "g"]);
    assert!(rustix::fs::statvfs(host.path("").as_path()).expect("known").f_bavail > 0);
    mounted.take_away().expect("taken away");
}
