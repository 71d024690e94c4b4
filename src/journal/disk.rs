//! The seam between the journal and the machine's files.
//!
//! A [`Disk`] makes, opens and removes files; a [`Region`] is the contents of one that is mapped. The journal
//! does nothing to a file but through these two, so a test can play a disk that loses what was not synced.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;
use uuid::Uuid;

/// Where the files are.
pub trait Disk: Send + Sync + 'static {
    /// The names in `directory`; none if there is no such directory.
    ///
    /// # Errors
    /// Those of the file system.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Makes `path` with `bytes` bytes, all of them allocated and zero but for `head` at the front, and all of it
    /// durable. Makes its directories. A crash leaves the whole file or none.
    ///
    /// # Errors
    /// Those of the file system; a full disk is one here, and never a signal at a later write.
    fn create(&self, path: &Path, bytes: usize, head: &[u8]) -> io::Result<Region>;

    /// Maps an existing file; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file system.
    fn open(&self, path: &Path) -> io::Result<Option<Region>>;

    /// A small file's contents; `None` if there is none.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Puts a small file in the place of the old one. Durable when it returns; a crash leaves the old or the new.
    ///
    /// # Errors
    /// Those of the file system.
    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()>;

    /// Puts the file `from` in the place of `to`, at once for whoever opens it from now on; what has either mapped
    /// keeps it. Survives a kill, and a power loss after [`Disk::settle`].
    ///
    /// # Errors
    /// Those of the file system, and then nothing has changed.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Returns when what [`Disk::rename`] did to `path` would survive a power loss.
    ///
    /// # Errors
    /// Those of the file system.
    fn settle(&self, path: &Path) -> io::Result<()>;

    /// Removes a file; there may be none.
    ///
    /// # Errors
    /// Those of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Identifies this boot of the machine: what was not synced before another boot may be lost.
    ///
    /// # Errors
    /// Those of the file system.
    fn boot(&self) -> io::Result<Uuid>;
}

/// The machine's own files.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileDisk;

/// A mapped file, as words of eight bytes in little-endian order. Offsets are in bytes and divisible by eight.
///
/// Once a sync failed, it is suspect for good: see [`mend`](super::mend).
///
/// # Panics
/// All methods, if a range is not aligned or not inside the file: a fault of this room.
pub struct Region {
    memory: Memory,
    /// One sync at a time: the kernel tells of a failure once, and another thread's sync would pass for good.
    syncing: Mutex<()>,
    /// What the kernel said when a sync failed.
    failure: OnceLock<String>,
    #[cfg(test)]
    tape: Option<super::tests::tape::Reel>,
}

enum Memory {
    Mapped(MmapRaw),
    Heap(Arc<[AtomicU64]>),
}

const WORD: usize = size_of::<u64>();

// === impl Region ===

impl Region {
    /// Memory that no file is behind, for disks that are played.
    pub fn heap(words: Arc<[AtomicU64]>) -> Self {
        Region::of(Memory::Heap(words))
    }

    fn mapped(map: MmapRaw) -> Self {
        Region::of(Memory::Mapped(map))
    }

    fn of(memory: Memory) -> Self {
        Region {
            memory,
            syncing: Mutex::default(),
            failure: OnceLock::new(),
            #[cfg(test)]
            tape: None,
        }
    }

    #[cfg(test)]
    pub(super) fn taped(words: Arc<[AtomicU64]>, reel: super::tests::tape::Reel) -> Self {
        Region { tape: Some(reel), ..Region::heap(words) }
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        match &self.memory {
            Memory::Heap(words) => words,
            Memory::Mapped(map) => mapped_words(map),
        }
    }

    /// Length in bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.words().len() * WORD
    }

    #[inline]
    pub(super) fn load(&self, offset: usize) -> u64 {
        u64::from_le(self.words()[offset / WORD].load(Ordering::Acquire))
    }

    /// What was stored before is there when this is.
    #[inline]
    pub(super) fn store(&self, offset: usize, word: u64) {
        debug_assert!(offset.is_multiple_of(WORD));
        #[cfg(test)]
        self.note(offset, word);
        self.words()[offset / WORD].store(word.to_le(), Ordering::Release);
    }

    /// Copies whole words in, in no particular order.
    #[inline]
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        debug_assert!(offset.is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        #[cfg(test)]
        self.note_all(offset, bytes);
        let words = &self.words()[offset / WORD..][..bytes.len() / WORD];
        for (word, bytes) in words.iter().zip(bytes.as_chunks::<WORD>().0) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
    }

    /// Copies whole words out.
    pub(super) fn read(&self, offset: usize, bytes: &mut [u8]) {
        let words = &self.words()[offset / WORD..][..bytes.len() / WORD];
        for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<WORD>().0) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
    }

    /// The first word from `from` on, below `to`, that is not zero.
    pub(super) fn first_nonzero(&self, from: usize, to: usize) -> Option<usize> {
        let words = &self.words()[from / WORD..to / WORD];
        words.iter().position(|word| word.load(Ordering::Relaxed) != 0).map(|index| from + index * WORD)
    }

    /// Returns when `[from, to)` would survive a power loss.
    ///
    /// # Errors
    /// Those of the kernel, and from then on always: it may have dropped what it failed to write, and would call the
    /// next sync good.
    pub(super) fn sync(&self, from: usize, to: usize) -> io::Result<()> {
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = self.failure.get() {
            return Err(io::Error::other(format!("an earlier sync of this file failed: {failure}")));
        }
        self.sync_once(from, to).inspect_err(|error| drop(self.failure.set(error.to_string())))
    }

    /// Whether a sync failed.
    #[inline]
    pub(super) fn is_suspect(&self) -> bool {
        self.failure.get().is_some()
    }

    fn sync_once(&self, from: usize, to: usize) -> io::Result<()> {
        #[cfg(test)]
        self.note_sync(from, to)?;
        match &self.memory {
            Memory::Heap(_) => Ok(()),
            Memory::Mapped(map) => map.flush_range(from, to - from),
        }
    }

    /// Makes the first write to each page of `[from, to)` cost no page fault. A hint: kernels before 5.14 refuse.
    pub(super) fn populate(&self, from: usize, to: usize) {
        if let Memory::Mapped(map) = &self.memory {
            let to = to.min(map.len());
            if from < to {
                let _ = map.advise_range(Advice::PopulateWrite, from, to - from);
            }
        }
    }

    #[cfg(test)]
    fn note(&self, offset: usize, word: u64) {
        if let Some(reel) = &self.tape {
            reel.store(offset, word);
        }
    }

    #[cfg(test)]
    fn note_all(&self, offset: usize, bytes: &[u8]) {
        for (index, bytes) in bytes.as_chunks::<WORD>().0.iter().enumerate() {
            self.note(offset + index * WORD, u64::from_le_bytes(*bytes));
        }
    }

    #[cfg(test)]
    fn note_sync(&self, from: usize, to: usize) -> io::Result<()> {
        self.tape.as_ref().map_or(Ok(()), |reel| reel.sync(from, to))
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

#[inline]
#[expect(unsafe_code, reason = "a mapped file is memory that only a pointer names")]
fn mapped_words(map: &MmapRaw) -> &[AtomicU64] {
    // SAFETY: the map is page aligned, readable, writable and `map.len()` bytes long for as long as `map` lives,
    // which the returned lifetime is bound to. Every access goes through atomics, so others who map the file
    // (there are none: the till's lock keeps other processes out of the directory) could race but not tear.
    // The file is preallocated and nobody truncates it, so no access faults.
    unsafe { std::slice::from_raw_parts(map.as_mut_ptr().cast::<AtomicU64>(), map.len() / WORD) }
}

// === impl FileDisk ===

impl Disk for FileDisk {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create(&self, path: &Path, bytes: usize, head: &[u8]) -> io::Result<Region> {
        make_directory(parent(path))?;
        let unfinished = unfinished(path);
        let created = allocate(&unfinished, bytes, head).and_then(|file| {
            fs::rename(&unfinished, path)?;
            sync_directory(parent(path))?;
            MmapOptions::new().len(bytes).map_raw(&file)
        });
        created.map(Region::mapped).inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn open(&self, path: &Path) -> io::Result<Option<Region>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => MmapOptions::new().map_raw(&file).map(Region::mapped).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(contents) => Ok(Some(contents)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        make_directory(parent(path))?;
        let unfinished = unfinished(path);
        let written = write(&unfinished, contents).and_then(|()| fs::rename(&unfinished, path));
        written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
        sync_directory(parent(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn settle(&self, path: &Path) -> io::Result<()> {
        sync_directory(parent(path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn boot(&self) -> io::Result<Uuid> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        text.trim().parse().map_err(io::Error::other)
    }
}

/// A file of `bytes` allocated bytes that begins with `head`, synced.
fn allocate(path: &Path, bytes: usize, head: &[u8]) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes as u64)?;
    file.write_all_at(head, 0)?;
    file.sync_all()?;
    Ok(file)
}

/// A file of `contents`, synced.
fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.write_all_at(contents, 0)?;
    file.sync_all()
}

/// A file that is being made has this name; whoever finds one after a crash may remove it.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Makes the directory and those above it, each durable in its parent.
fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    make_directory(parent(directory))?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent(directory)),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}
