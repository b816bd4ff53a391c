//! The kernel's requests, done on the images one after the other.
//!
//! Shell. It decides nothing: a request without power is held, not answered; any other is a call of [`Images`].

use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroI32;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::host_files::HostFiles;
use crate::images::{Attributes, Images};
use crate::limits::{KEPT_S_MAX, NAME_BYTES_MAX, PAGE_BYTES, SECTOR_BYTES, WRITE_BYTES_MAX};
use crate::store::{Inode, Refusal};
use crate::supply::{Kind, Supply, lock};

/// The kernel's request to fill a file with zeros up to its end and to extend it, and to do nothing else.
const PLAIN_ALLOCATION: i32 = 0;

/// Requests that came when the power was gone. There are no more than the kernel has under way.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Vec<Box<dyn Send>>>>);

impl Held {
    fn hold(&self, reply: impl Send + 'static) {
        lock(&self.0).push(Box::new(reply));
    }

    /// The connection is gone: nobody hears the answers any more.
    pub(crate) fn let_go(&self) {
        lock(&self.0).clear();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} requests held", lock(&self.0).len())
    }
}

/// An answer that may be an error.
trait Answer: Send + 'static {
    fn refuse(self, number: Errno);
}

macro_rules! answers {
    ($($reply:ty),*) => { $(impl Answer for $reply {
        fn refuse(self, number: Errno) {
            self.error(number);
        }
    })* };
}

answers!(ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite);

/// Serves one mounted file system.
#[derive(Debug)]
pub(crate) struct Requests {
    images: Arc<Mutex<Images<HostFiles>>>,
    supply: Arc<Supply>,
    member: u8,
    held: Held,
}

impl Requests {
    pub(crate) fn new(images: Arc<Mutex<Images<HostFiles>>>, supply: Arc<Supply>, member: u8, held: Held) -> Self {
        Self { images, supply, member, held }
    }

    /// Does a request and answers it, or holds it.
    fn serve<R: Answer, T>(
        &self,
        kind: Kind,
        reply: R,
        work: impl FnOnce(&mut Images<HostFiles>) -> Result<T, Refusal>,
        answer: impl FnOnce(R, T),
    ) {
        let mut images = lock(&self.images);
        if !self.supply.passes(self.member, kind) {
            return self.held.hold(reply);
        }
        match work(&mut images) {
            Ok(done) => answer(reply, done),
            Err(refusal) => reply.refuse(errno(refusal)),
        }
    }

    /// A request whose answer says nothing.
    fn serve_plain(
        &self,
        kind: Kind,
        reply: ReplyEmpty,
        work: impl FnOnce(&mut Images<HostFiles>) -> Result<(), Refusal>,
    ) {
        self.serve(kind, reply, work, |reply, ()| reply.ok());
    }
}

impl Filesystem for Requests {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let limited = config.set_max_write(WRITE_BYTES_MAX).map(drop);
        limited.map_err(|most| {
            std::io::Error::other(format!("writes of {WRITE_BYTES_MAX} bytes; at most {most} are known"))
        })
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = |images: &mut Images<_>| images.look_up(inode(parent), name.as_bytes());
        self.serve(Kind::Look, reply, found, answer_entry);
    }

    fn forget(&self, _: &Request, file: INodeNo, count: u64) {
        let mut images = lock(&self.images);
        // A cut forgets everything by itself.
        if self.supply.passes(self.member, Kind::Look)
            && let Err(refusal) = images.forget(inode(file), count)
        {
            eprintln!("a file that is gone cannot be removed from {}: {refusal}", images.store().dir().display());
        }
    }

    fn getattr(&self, _: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(Kind::Look, reply, |images| images.attributes(inode(file)), answer_attributes);
    }

    fn setattr(
        &self,
        _: &Request,
        file: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = |images: &mut Images<_>| {
            images.set_access(inode(file), mode.map(permissions), user, group)?;
            size.map_or(Ok(()), |bytes| images.set_length(inode(file), bytes))?;
            images.attributes(inode(file))
        };
        let kind = if size.is_some() { Kind::Bytes } else { Kind::Look };
        self.serve(kind, reply, set, answer_attributes);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let owner = (request.uid(), request.gid());
        let made =
            |images: &mut Images<_>| images.create(inode(parent), name.as_bytes(), true, permissions(mode), owner);
        self.serve(Kind::Name, reply, made, answer_entry);
    }

    fn create(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        let owner = (request.uid(), request.gid());
        let made =
            |images: &mut Images<_>| images.create(inode(parent), name.as_bytes(), false, permissions(mode), owner);
        self.serve(Kind::Name, reply, made, |reply, made| {
            let (generation, flags) = (Generation(0), FopenFlags::FOPEN_KEEP_CACHE);
            reply.created(&kept(), &attributes(made), generation, FileHandle(0), flags);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve_plain(Kind::Name, reply, |images| images.remove(inode(parent), name.as_bytes(), false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve_plain(Kind::Name, reply, |images| images.remove(inode(parent), name.as_bytes(), true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !RenameFlags::RENAME_NOREPLACE.contains(flags) {
            return reply.error(Errno::EINVAL);
        }
        let (from, to) = ((inode(parent), name.as_bytes()), (inode(to_parent), to_name.as_bytes()));
        self.serve_plain(Kind::Name, reply, |images| images.rename(from, to, !flags.is_empty()));
    }

    fn open(&self, _: &Request, file: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let looked = |images: &mut Images<_>| images.attributes(inode(file));
        // The cache is the kernel's own: without this flag it would write dirty pages back at each opening.
        self.serve(Kind::Look, reply, looked, |reply, _| reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn read(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = |images: &mut Images<_>| {
            let mut bytes = vec![0; size as usize];
            let count = images.read(inode(file), offset, &mut bytes)?;
            bytes.truncate(count);
            Ok(bytes)
        };
        self.serve(Kind::Look, reply, read, |reply, bytes| reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let count = u32::try_from(data.len()).unwrap_or(WRITE_BYTES_MAX);
        let write = |images: &mut Images<_>| images.write(inode(file), offset, data);
        self.serve(Kind::Bytes, reply, write, |reply, ()| reply.written(count));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.serve_plain(Kind::Look, reply, |_| Ok(()));
    }

    fn fsync(&self, _: &Request, file: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.serve_plain(Kind::Sync, reply, |images| images.sync(inode(file)));
    }

    fn fsyncdir(&self, _: &Request, directory: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.serve_plain(Kind::SyncNames, reply, |images| images.sync_names(inode(directory)));
    }

    fn readdir(&self, _: &Request, directory: INodeNo, _: FileHandle, offset: u64, reply: ReplyDirectory) {
        let listed = |images: &mut Images<_>| images.list(inode(directory));
        self.serve(Kind::Look, reply, listed, |mut reply, names| {
            for (number, (name, file, is_directory)) in
                (1..).zip(names).skip(usize::try_from(offset).unwrap_or(usize::MAX))
            {
                let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
                if reply.add(INodeNo(file.0), number, kind, OsStr::from_bytes(&name)) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let space = |images: &mut Images<HostFiles>| {
            rustix::fs::statvfs(images.store().dir()).map_err(|error| Refusal::Host(error.raw_os_error()))
        };
        self.serve(Kind::Look, reply, space, |reply, space| {
            let block = u32::try_from(space.f_frsize).unwrap_or(PAGE_BYTES as u32);
            let name_bytes = NAME_BYTES_MAX as u32;
            let (files, free_files) = (space.f_files, space.f_ffree);
            reply.statfs(space.f_blocks, space.f_bfree, space.f_bavail, files, free_files, block, name_bytes, block);
        });
    }

    fn fallocate(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != PLAIN_ALLOCATION {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.serve_plain(Kind::Bytes, reply, |images| {
            let before = images.attributes(inode(file))?.bytes;
            images.set_length(inode(file), before.max(offset.saturating_add(length)))
        });
    }
}

fn answer_entry(reply: ReplyEntry, found: Attributes) {
    reply.entry(&kept(), &attributes(found), Generation(0));
}

fn answer_attributes(reply: ReplyAttr, found: Attributes) {
    reply.attr(&kept(), &attributes(found));
}

fn kept() -> Duration {
    Duration::from_secs(KEPT_S_MAX)
}

fn inode(number: INodeNo) -> Inode {
    Inode(number.0)
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).expect("twelve bits")
}

fn attributes(found: Attributes) -> FileAttr {
    let Attributes { inode, is_directory, bytes, mode, owner, names_count } = found;
    let never = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(inode.0),
        size: bytes,
        blocks: bytes.div_ceil(SECTOR_BYTES as u64),
        atime: never,
        mtime: never,
        ctime: never,
        crtime: never,
        kind: if is_directory { FileType::Directory } else { FileType::RegularFile },
        perm: mode,
        nlink: names_count,
        uid: owner.0,
        gid: owner.1,
        rdev: 0,
        blksize: PAGE_BYTES as u32,
        flags: 0,
    }
}

fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Absent => Errno::ENOENT,
        Refusal::Exists => Errno::EEXIST,
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::NotDirectory => Errno::ENOTDIR,
        Refusal::IsDirectory => Errno::EISDIR,
        Refusal::NameTooLong => Errno::ENAMETOOLONG,
        Refusal::Host(number) => NonZeroI32::new(number).map_or(Errno::EIO, |number| Errno::from_i32(number.get())),
    }
}
