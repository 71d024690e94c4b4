//! The file of a till: a header, then chunks of slots that are mapped as they are added.
//!
//! The only place of the room with `unsafe`: a mapping becomes `&Slot`s, which are atomics through and through.
//!
//! # Why a killed process loses nothing
//! The mapping is shared with the kernel's page cache, which outlives the process. Only a power loss does not
//! write the pages back; the header tells by the boot id and the clean flag that this has happened. What the file
//! then says may be old, so it is kept beside as `till.<id>.lost`, and a new till begins that counts all that the
//! old one is known to have used as used elsewhere.
//!
//! # Why no page fault can kill the process
//! Chunks are preallocated, so a full disk is an error when an account is opened and not a SIGBUS when a request
//! is admitted.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs, ops};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use uuid::Uuid;

use super::key::{array, key_from_words, key_to_words};
use super::slot::{KEY_WORDS, Slot};
use crate::domain::{AccountKey, Units};

/// Identifies a till: one file of one gateway. Units are kept per account and till. A UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TillId(pub Uuid);

/// A till that a power loss left in doubt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostTill {
    pub id: TillId,
    /// Where its file is kept.
    pub path: PathBuf,
    /// How many of its accounts the new till took over.
    pub accounts: usize,
    /// What it is known to have used of them: counted by the new till as used elsewhere.
    pub used: Units,
    /// Slots that nothing could be read from.
    pub unreadable: usize,
}

/// Why a till can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum TillError {
    #[error(
        "{} is in use by another gateway{}; stop it, or give this one another data directory",
        .directory.display(),
        .process.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    InUse { directory: PathBuf, process: Option<u32> },
    #[error("{} is no till; move it out of the way if it is not needed", .0.display())]
    Foreign(PathBuf),
    #[error("{} is a till of format {format}, this version of tollgate reads format {FORMAT}", .path.display())]
    OtherFormat { path: PathBuf, format: u32 },
    #[error("{} is damaged: {what}; move it out of the way to begin anew from the database", .path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("reserving {bytes} bytes on disk for {}", .path.display())]
    Reserve { path: PathBuf, bytes: u64, source: io::Error },
    #[error("{attempt} {}", .path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
}

/// The open, locked file.
pub(super) struct TillFile {
    path: PathBuf,
    file: File,
    header: Header,
    chunks: Vec<Arc<Chunk>>,
    lock: Arc<Lock>,
}

/// One slot of a mapped file. Keeps the mapping and the lock.
pub(super) struct MappedSlot {
    slot: std::ptr::NonNull<Slot>,
    index: usize,
    _chunk: Arc<Chunk>,
}

/// Which run of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootId(pub Uuid);

/// What [`open`] found.
pub(super) struct Opened {
    pub(super) file: TillFile,
    pub(super) lost: Option<LostTill>,
}

/// Whoever has this owns the directory.
#[derive(Debug)]
struct Lock {
    _file: File,
}

struct Chunk {
    map: MmapRaw,
    _lock: Arc<Lock>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Header {
    id: TillId,
    boot: BootId,
    /// Everything was written back before the process ended.
    is_clean: bool,
}

const MAGIC: [u8; 8] = *b"TOLLTILL";
const FORMAT: u32 = 1;
/// The header's page: chunks begin on a page.
const HEADER_BYTES: u64 = 4096;
const HEADER_USED: usize = 64;
const SLOT_BYTES: usize = size_of::<Slot>();
/// A chunk is 768 KiB: small beside any disk, and a thousand tenants need one only.
pub(super) const CHUNK_SLOTS: usize = 4096;
const CHUNK_BYTES: usize = CHUNK_SLOTS * SLOT_BYTES;
const SEAL_USED: u64 = 1 << 32;

// The file's format: a slot of another size would be another format.
const _: () = assert!(SLOT_BYTES == 192 && align_of::<Slot>() == 64);

/// Opens or creates `<directory>/till`.
pub(super) fn open(directory: &Path, boot: BootId, fresh: TillId) -> Result<Opened, TillError> {
    fs::create_dir_all(directory).map_err(on("creating", directory))?;
    let lock = Arc::new(Lock::take(directory)?);
    let path = directory.join("till");
    match File::options().read(true).write(true).open(&path) {
        Ok(file) => open_existing(TillFile::read(path, file, lock)?, boot, fresh),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = TillFile::build(&path, fresh, boot, lock)?.publish(&path)?;
            Ok(Opened { file, lost: None })
        }
        Err(error) => Err(on("opening", &path)(error)),
    }
}

fn open_existing(mut file: TillFile, boot: BootId, fresh: TillId) -> Result<Opened, TillError> {
    if file.header.boot != boot && !file.header.is_clean {
        return succeed(&file, boot, fresh);
    }
    file.check()?;
    file.write_header(Header { boot, is_clean: false, ..file.header })?;
    Ok(Opened { file, lost: None })
}

/// Begins a new till that counts what `old` is known to have used as used elsewhere.
///
/// The new file is complete before it takes the old one's name, so a kill in between leaves either.
fn succeed(old: &TillFile, boot: BootId, fresh: TillId) -> Result<Opened, TillError> {
    let kept = old.path.with_file_name(format!("till.{}.lost", old.header.id.0));
    let mut new = TillFile::build(&old.path, fresh, boot, old.lock.clone())?;
    let mut lost =
        LostTill { id: old.header.id, path: kept.clone(), accounts: 0, used: Units::ZERO, unreadable: 0 };
    for index in 0..old.slots() {
        old.hand_over(index, &mut new, &mut lost)?;
    }
    match fs::hard_link(&old.path, &kept) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(on("keeping", &kept)(error)),
        Ok(()) | Err(_) => Ok(Opened { file: new.publish(&old.path)?, lost: Some(lost) }),
    }
}

// === impl TillId ===

impl fmt::Display for TillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl BootId ===

impl BootId {
    /// Of the running machine. Where the kernel does not tell, every start counts as another boot.
    pub fn current() -> Self {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        BootId(Uuid::try_parse(text.trim()).unwrap_or_else(|_| Uuid::now_v7()))
    }
}

// === impl Lock ===

impl Lock {
    fn take(directory: &Path) -> Result<Lock, TillError> {
        let path = directory.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(on("opening", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let process = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                return Err(TillError::InUse { directory: directory.to_owned(), process });
            }
            Err(error) => return Err(on("locking", &path)(error.into())),
        }
        // The number is for the message above only; the lock itself is the kernel's.
        let text = format!("{}\n", std::process::id());
        file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0)).map_err(on("writing", &path))?;
        Ok(Lock { _file: file })
    }
}

// === impl TillFile ===

impl TillFile {
    pub(super) fn id(&self) -> TillId {
        self.header.id
    }

    /// How many slots are mapped.
    pub(super) fn slots(&self) -> usize {
        self.chunks.len() * CHUNK_SLOTS
    }

    /// # Panics
    /// If `index` is not below [`TillFile::slots`].
    pub(super) fn slot(&self, index: usize) -> MappedSlot {
        let chunk = &self.chunks[index / CHUNK_SLOTS];
        MappedSlot { slot: chunk.slot(index % CHUNK_SLOTS), index, _chunk: chunk.clone() }
    }

    /// Adds one chunk of free slots.
    pub(super) fn grow(&mut self) -> Result<(), TillError> {
        let offset = HEADER_BYTES + (self.chunks.len() * CHUNK_BYTES) as u64;
        reserve(&self.file, offset, CHUNK_BYTES as u64).map_err(|source| TillError::Reserve {
            path: self.path.clone(),
            bytes: CHUNK_BYTES as u64,
            source,
        })?;
        self.map_next()
    }

    /// Puts an account into a free slot.
    pub(super) fn write(&self, index: usize, key: &AccountKey, limit: u64, base: u64) -> MappedSlot {
        let slot = self.slot(index);
        let words = key_to_words(key);
        slot.begin(&words, limit, base);
        slot.set_seal(self.sealed(&words));
        slot
    }

    /// The account in the slot; `None` if it is free.
    pub(super) fn key_of(&self, slot: &Slot) -> Result<Option<AccountKey>, String> {
        let words = slot.key();
        match slot.seal() {
            0 => Ok(None),
            seal if seal == self.sealed(&words) => {
                key_from_words(&words).map(Some).ok_or_else(|| "a slot's key can't be read".to_owned())
            }
            _ => Err("a slot's key fails its checksum".to_owned()),
        }
    }

    /// Writes everything back, so that the file is whole even if the machine is switched off later.
    pub(super) fn close(&mut self) -> Result<(), TillError> {
        for chunk in &self.chunks {
            chunk.map.flush().map_err(on("writing", &self.path))?;
        }
        self.write_header(Header { is_clean: true, ..self.header })
    }

    pub(super) fn damaged(&self, what: String) -> TillError {
        TillError::Damaged { path: self.path.clone(), what }
    }

    /// Marks a key as belonging to this file: slots of another till never verify.
    fn sealed(&self, words: &[u64; KEY_WORDS]) -> u64 {
        let mut sum = crc32c::crc32c(self.header.id.0.as_bytes());
        for word in words {
            sum = crc32c::crc32c_append(sum, &word.to_le_bytes());
        }
        SEAL_USED | u64::from(sum)
    }

    /// Reads the header and maps the chunks. Nothing is written.
    fn read(path: PathBuf, file: File, lock: Arc<Lock>) -> Result<TillFile, TillError> {
        let mut bytes = [0; HEADER_USED];
        file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TillError::Foreign(path.clone()),
            _ => on("reading", &path)(error),
        })?;
        let header = Header::decode(&bytes, &path)?;
        let length = file.metadata().map_err(on("reading", &path))?.len();
        // A kill while the file grew may leave part of a chunk: nothing was ever put there.
        let chunks = length.saturating_sub(HEADER_BYTES) / CHUNK_BYTES as u64;
        let mut till = TillFile { path, file, header, chunks: Vec::new(), lock };
        for _ in 0..chunks {
            till.map_next()?;
        }
        Ok(till)
    }

    /// A new file with one chunk beside `path`.
    fn build(path: &Path, id: TillId, boot: BootId, lock: Arc<Lock>) -> Result<TillFile, TillError> {
        let path = path.with_file_name("till.new");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(on("creating", &path))?;
        let header = Header { id, boot, is_clean: false };
        let mut till = TillFile { path, file, header, chunks: Vec::new(), lock };
        till.write_header(header)?;
        till.grow()?;
        Ok(till)
    }

    /// Gives a file that [`TillFile::build`] made its name, for good.
    fn publish(mut self, path: &Path) -> Result<TillFile, TillError> {
        for chunk in &self.chunks {
            chunk.map.flush().map_err(on("writing", &self.path))?;
        }
        self.file.sync_all().map_err(on("writing", &self.path))?;
        fs::rename(&self.path, path).map_err(on("renaming", &self.path))?;
        path.to_owned().clone_into(&mut self.path);
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|file| file.sync_all()).map_err(on("writing", directory))?;
        Ok(self)
    }

    fn map_next(&mut self) -> Result<(), TillError> {
        let offset = HEADER_BYTES + (self.chunks.len() * CHUNK_BYTES) as u64;
        let map = MmapOptions::new()
            .offset(offset)
            .len(CHUNK_BYTES)
            .map_raw(&self.file)
            .map_err(on("mapping", &self.path))?;
        self.chunks.push(Arc::new(Chunk { map, _lock: self.lock.clone() }));
        Ok(())
    }

    /// Refuses a file in which not every slot makes sense.
    fn check(&self) -> Result<(), TillError> {
        for index in 0..self.slots() {
            self.key_of(&self.slot(index)).map_err(|what| self.damaged(format!("{what} (slot {index})")))?;
        }
        Ok(())
    }

    fn hand_over(&self, index: usize, new: &mut TillFile, lost: &mut LostTill) -> Result<(), TillError> {
        let slot = self.slot(index);
        match self.key_of(&slot) {
            Ok(None) => {}
            Err(_) => lost.unreadable += 1,
            Ok(Some(key)) => {
                if lost.accounts == new.slots() {
                    new.grow()?;
                }
                let used = slot.counters().used();
                new.write(lost.accounts, &key, slot.limit(), slot.base() + used);
                lost.accounts += 1;
                lost.used = lost.used.saturating_add(Units::saturating(used));
            }
        }
        Ok(())
    }

    /// On disk before anything else happens: a clean flag must never outlive the first change.
    fn write_header(&mut self, header: Header) -> Result<(), TillError> {
        self.file
            .write_all_at(&header.encode(), 0)
            .and_then(|()| self.file.sync_all())
            .map_err(on("writing", &self.path))?;
        self.header = header;
        Ok(())
    }
}

// === impl Chunk ===

impl Chunk {
    #[expect(unsafe_code, reason = "a mapped file becomes slots")]
    fn slot(&self, index: usize) -> std::ptr::NonNull<Slot> {
        assert!(index < CHUNK_SLOTS, "slot {index} of {CHUNK_SLOTS}");
        // SAFETY: the mapping is CHUNK_SLOTS slots long and begins on a page, so the pointer stays inside it and
        // is aligned; a mapping is never null.
        unsafe { std::ptr::NonNull::new_unchecked(self.map.as_mut_ptr().cast::<Slot>().add(index)) }
    }
}

// === impl MappedSlot ===

impl MappedSlot {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Makes the slot free. Nobody may use it any more.
    pub(super) fn clear(&self) {
        self.set_seal(0);
    }
}

impl ops::Deref for MappedSlot {
    type Target = Slot;

    #[inline]
    #[expect(unsafe_code, reason = "a mapped file becomes slots")]
    fn deref(&self) -> &Slot {
        // SAFETY: the pointer came from `Chunk::slot` and the chunk is kept alive beside it. A slot consists of
        // atomics only, for which any bytes are a value, and which other processes could change without undefined
        // behaviour; none does, because the lock keeps them out.
        unsafe { self.slot.as_ref() }
    }
}

#[expect(unsafe_code, reason = "a mapped file becomes slots")]
// SAFETY: what the pointer points to consists of atomics, and lives as long as the chunk, which is Send and Sync.
unsafe impl Send for MappedSlot {}

#[expect(unsafe_code, reason = "a mapped file becomes slots")]
// SAFETY: as for Send.
unsafe impl Sync for MappedSlot {}

// === impl Header ===

impl Header {
    fn encode(&self) -> [u8; HEADER_USED] {
        let mut bytes = [0; HEADER_USED];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12] = u8::from(self.is_clean);
        bytes[16..32].copy_from_slice(self.id.0.as_bytes());
        bytes[32..48].copy_from_slice(self.boot.0.as_bytes());
        let sum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_USED], path: &Path) -> Result<Header, TillError> {
        if bytes[..8] != MAGIC {
            return Err(TillError::Foreign(path.to_owned()));
        }
        let format = u32::from_le_bytes(array(&bytes[8..12]));
        if format != FORMAT {
            return Err(TillError::OtherFormat { path: path.to_owned(), format });
        }
        if u32::from_le_bytes(array(&bytes[60..])) != crc32c::crc32c(&bytes[..60]) {
            let what = "its header fails its checksum".to_owned();
            return Err(TillError::Damaged { path: path.to_owned(), what });
        }
        Ok(Header {
            id: TillId(Uuid::from_bytes(array(&bytes[16..32]))),
            boot: BootId(Uuid::from_bytes(array(&bytes[32..48]))),
            is_clean: bytes[12] == 1,
        })
    }
}

/// Makes sure that the file has that range, on file systems without preallocation by writing it.
fn reserve(file: &File, offset: u64, length: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), offset, length) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(file, offset, length),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &File, offset: u64, length: u64) -> io::Result<()> {
    const PAGE: [u8; 4096] = [0; 4096];
    for start in (0..length).step_by(PAGE.len()) {
        file.write_all_at(&PAGE, offset + start)?;
    }
    Ok(())
}

fn on(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TillError {
    let path = path.to_owned();
    move |source| TillError::Io { attempt, path, source }
}
