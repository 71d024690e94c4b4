//! A disk in memory that keeps a tape of everything that was done to it, word by word.
//!
//! [`TapeDisk::killed_at`] gives the disk as a process would have left it that was killed after any step of the
//! tape; [`TapeDisk::unplugged_at`] as the machine would have that lost its power: each word that was not synced
//! may be there or not.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use uuid::Uuid;

use crate::journal::{Disk, Region};

#[derive(Clone)]
pub(in crate::journal) struct TapeDisk {
    tape: Arc<Mutex<Tape>>,
    boot: Uuid,
}

/// What a region reports its stores with.
pub(in crate::journal) struct Reel {
    tape: Arc<Mutex<Tape>>,
    file: usize,
}

#[derive(Default)]
struct Tape {
    steps: Vec<Step>,
    mapped: HashMap<PathBuf, (usize, Arc<[AtomicU64]>)>,
    small: HashMap<PathBuf, Vec<u8>>,
    files: usize,
    /// Files whose next sync fails, and those whose sync failed.
    failing: BTreeSet<usize>,
    failed: BTreeSet<usize>,
}

#[derive(Clone)]
enum Step {
    Create { path: PathBuf, file: usize, words: Vec<u64> },
    Remove { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Replace { path: PathBuf, contents: Vec<u8> },
    Store { file: usize, index: usize, word: u64 },
    Sync { file: usize, from: usize, to: usize },
}

impl Reel {
    pub(in crate::journal) fn store(&self, offset: usize, word: u64) {
        let step = Step::Store { file: self.file, index: offset / 8, word };
        self.tape.lock().unwrap().steps.push(step);
    }

    pub(in crate::journal) fn sync(&self, from: usize, to: usize) -> io::Result<()> {
        let mut tape = self.tape.lock().unwrap();
        assert!(!tape.failed.contains(&self.file), "a file whose sync failed is not synced again");
        if tape.failing.remove(&self.file) {
            tape.failed.insert(self.file);
            return Err(io::Error::other("the disk is broken"));
        }
        tape.steps.push(Step::Sync { file: self.file, from: from / 8, to: to.div_ceil(8) });
        Ok(())
    }
}

impl TapeDisk {
    pub(in crate::journal) fn new() -> TapeDisk {
        TapeDisk { tape: Arc::default(), boot: Uuid::from_u128(1) }
    }

    /// How many steps there were.
    pub(in crate::journal) fn steps(&self) -> usize {
        self.tape().steps.len()
    }

    /// What is there now is durable and where the tape begins.
    pub(in crate::journal) fn begin_anew(&self) {
        let mut tape = self.tape();
        tape.steps = tape.snapshot();
    }

    /// How many files got another name.
    pub(in crate::journal) fn renames(&self) -> usize {
        self.tape().steps.iter().filter(|step| matches!(step, Step::Rename { .. })).count()
    }

    pub(in crate::journal) fn killed_at(&self, step: usize) -> TapeDisk {
        self.replay(step, |_| true, self.boot)
    }

    /// `keep` decides for each word that was stored and not synced, by its step.
    pub(in crate::journal) fn unplugged_at(&self, step: usize, keep: impl Fn(usize) -> bool) -> TapeDisk {
        self.replay(step, keep, Uuid::from_u128(self.boot.as_u128() + 1))
    }

    pub(in crate::journal) fn flip_bit(&self, path: &Path, bit: usize) {
        let tape = self.tape();
        let (_, words) = &tape.mapped[path];
        words[bit / 64].fetch_xor(1 << (bit % 64), Ordering::SeqCst);
    }

    /// The same story, told by a journal that removes segments before it moves the cursor past them.
    pub(in crate::journal) fn unlinking_first(&self) -> TapeDisk {
        let mut steps = self.tape().steps.clone();
        for at in 0..steps.len() {
            let removed =
                steps[at + 1..].iter().take_while(|step| matches!(step, Step::Remove { .. })).count();
            if matches!(steps[at], Step::Replace { .. }) {
                steps[at..=at + removed].rotate_left(1);
            }
        }
        TapeDisk { tape: Arc::new(Mutex::new(Tape { steps, ..Tape::default() })), boot: self.boot }
    }

    /// The next sync of the file fails, and what it holds may never reach the disk.
    pub(in crate::journal) fn fail_sync(&self, path: &Path) {
        let mut tape = self.tape();
        let (file, _) = tape.mapped[path];
        tape.failing.insert(file);
    }

    pub(in crate::journal) fn segments(&self) -> Vec<PathBuf> {
        let tape = self.tape();
        let mut paths: Vec<PathBuf> = tape
            .mapped
            .keys()
            .filter(|path| path.extension().is_some_and(|it| it == "seg"))
            .cloned()
            .collect();
        paths.sort();
        paths
    }

    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap()
    }

    fn replay(&self, until: usize, keep: impl Fn(usize) -> bool, boot: Uuid) -> TapeDisk {
        let steps = self.tape().steps[..until].to_vec();
        let synced = synced_stores(&steps);
        let mut tape = Tape::default();
        let mut words: HashMap<usize, Arc<[AtomicU64]>> = HashMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Create { path, file, words: initial } => {
                    let contents: Arc<[AtomicU64]> = initial.into_iter().map(AtomicU64::new).collect();
                    words.insert(file, Arc::clone(&contents));
                    tape.mapped.insert(path, (file, contents));
                    tape.files = tape.files.max(file + 1);
                }
                Step::Remove { path } => drop((tape.mapped.remove(&path), tape.small.remove(&path))),
                Step::Rename { from, to } => tape.rename(&from, to),
                Step::Replace { path, contents } => drop(tape.small.insert(path, contents)),
                Step::Store { file, index, word } if synced.contains(&at) || keep(at) => {
                    words[&file][index].store(word, Ordering::Relaxed);
                }
                Step::Store { .. } | Step::Sync { .. } => {}
            }
        }
        tape.steps = tape.snapshot();
        TapeDisk { tape: Arc::new(Mutex::new(tape)), boot }
    }

    fn region(&self, file: usize, words: &Arc<[AtomicU64]>) -> Region {
        Region::taped(Arc::clone(words), Reel { tape: Arc::clone(&self.tape), file })
    }
}

/// The stores that a later sync of the same words has made durable.
fn synced_stores(steps: &[Step]) -> BTreeSet<usize> {
    let mut unsynced: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
    let mut synced = BTreeSet::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Store { file, index, .. } => unsynced.entry(*file).or_default().push((at, *index)),
            Step::Sync { file, from, to } => unsynced.entry(*file).or_default().retain(|(at, index)| {
                let covered = (from..to).contains(&index);
                if covered {
                    synced.insert(*at);
                }
                !covered
            }),
            _ => {}
        }
    }
    synced
}

impl Tape {
    fn rename(&mut self, from: &Path, to: PathBuf) {
        if let Some(file) = self.mapped.remove(from) {
            self.mapped.insert(to, file);
        }
    }

    /// The steps that make what is there now, so that a replayed disk can be replayed again.
    fn snapshot(&self) -> Vec<Step> {
        let load = |words: &Arc<[AtomicU64]>| words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let mapped = self.mapped.iter().map(|(path, (file, words))| Step::Create {
            path: path.clone(),
            file: *file,
            words: load(words),
        });
        let small = self
            .small
            .iter()
            .map(|(path, contents)| Step::Replace { path: path.clone(), contents: contents.clone() });
        mapped.chain(small).collect()
    }
}

impl Disk for TapeDisk {
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let tape = self.tape();
        let names = tape.mapped.keys().chain(tape.small.keys()).filter_map(|path| {
            let below = path.strip_prefix(directory).ok()?;
            below.iter().next().map(|name| name.to_string_lossy().into_owned())
        });
        Ok(names.collect::<BTreeSet<String>>().into_iter().collect())
    }

    fn create(&self, path: &Path, bytes: usize, head: &[u8]) -> io::Result<Region> {
        let mut initial = vec![0; bytes / 8];
        for (word, bytes) in initial.iter_mut().zip(head.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let words: Arc<[AtomicU64]> = initial.iter().copied().map(AtomicU64::new).collect();
        let mut tape = self.tape();
        let file = tape.files;
        tape.files += 1;
        tape.mapped.insert(path.to_owned(), (file, Arc::clone(&words)));
        tape.steps.push(Step::Create { path: path.to_owned(), file, words: initial });
        drop(tape);
        Ok(self.region(file, &words))
    }

    fn open(&self, path: &Path) -> io::Result<Option<Region>> {
        let found = self.tape().mapped.get(path).cloned();
        Ok(found.map(|(file, words)| self.region(file, &words)))
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.tape().small.get(path).cloned())
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let mut tape = self.tape();
        tape.small.insert(path.to_owned(), contents.to_owned());
        tape.steps.push(Step::Replace { path: path.to_owned(), contents: contents.to_owned() });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tape = self.tape();
        tape.rename(from, to.to_owned());
        tape.steps.push(Step::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn settle(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut tape = self.tape();
        tape.mapped.remove(path);
        tape.small.remove(path);
        tape.steps.push(Step::Remove { path: path.to_owned() });
        Ok(())
    }

    fn boot(&self) -> io::Result<Uuid> {
        Ok(self.boot)
    }
}
