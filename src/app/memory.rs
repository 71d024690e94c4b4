//! The memory that the process has in use, and how short of it the process is.
//!
//! # What counts
//! Memory that the kernel can't take back: anonymous and shared pages. Till, journal and the program itself are mapped
//! files; their pages are written back and go when they are needed, and counting them would shed load for nothing.
//!
//! # Why requests come again though memory has not gone back
//! An allocator keeps much of what is freed, and uses it before it asks the kernel for more. So after [`PATIENCE`]
//! readings without requests they are let in again, and refused anew once memory has really grown: otherwise a gateway
//! that had got through a crowd could refuse everybody until its next start.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntGauge, Registry};
use tokio::sync::watch;
use tokio::time::interval;

use crate::gateway::{GatewayShared, MemoryPressure};
use crate::telemetry::readiness::Readiness;

/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);

/// Where pressure begins and where it ends, in thousandths of the limit. What lies between keeps it from flapping.
const HIGH_FROM: u64 = 800;
const HIGH_UNTIL: u64 = 750;
const CRITICAL_FROM: u64 = 950;
const CRITICAL_UNTIL: u64 = 900;

/// Readings at [`MemoryPressure::Critical`] after which requests are tried again, if there is less than
/// [`TRIED_BELOW`] in use.
const PATIENCE: u32 = 10;
const TRIED_BELOW: u64 = 990;

/// By how much memory must grow after that to be critical again.
const GROWN: u64 = 10;

/// A limit of cgroups (version 1) that is none.
const UNLIMITED: u64 = 1 << 62;

/// Reads how much memory is in use, tells it, and has the rooms hold less where it is too much.
pub(super) struct MemoryKeeper {
    shared: Arc<GatewayShared>,
    /// As configured: see `listen.limits.memory_bytes`.
    limits: watch::Receiver<Option<u64>>,
    readiness: Readiness,
    course: Course,
    resident: IntGauge,
    limit: IntGauge,
    pressure: IntGauge,
}

/// How pressure follows from readings.
#[derive(Debug, Default)]
struct Course {
    pressure: MemoryPressure,
    /// Readings since it became critical.
    critical_for: u32,
    /// What was in use when requests were tried again.
    borne: Option<u64>,
}

// === impl MemoryKeeper ===

impl MemoryKeeper {
    /// # Panics
    /// If the registry has a metric of one of these names already.
    pub(super) fn register(
        registry: &Registry,
        shared: Arc<GatewayShared>,
        limits: watch::Receiver<Option<u64>>,
        readiness: Readiness,
    ) -> MemoryKeeper {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help).expect("a literal name");
            registry.register(Box::new(gauge.clone())).expect("registered once");
            gauge
        };
        MemoryKeeper {
            shared,
            limits,
            readiness,
            course: Course::default(),
            resident: gauge(
                "tollgate_memory_resident_bytes",
                "Memory that the process has in use, without mapped files, which the kernel can take back.",
            ),
            limit: gauge(
                "tollgate_memory_limit_bytes",
                "Memory that it may have in use, as configured or by its cgroup; 0 without a limit.",
            ),
            pressure: gauge(
                "tollgate_memory_pressure",
                "How short memory is: 0 not, 1 connections are not kept and caches shrink, 2 requests are refused.",
            ),
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let mut readings = interval(EVERY);
        loop {
            readings.tick().await;
            self.read();
        }
    }

    fn read(&mut self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = resident_in(&status);
        let configured = *self.limits.borrow();
        let limit = configured.or_else(cgroup_limit).unwrap_or_default();
        self.resident.set(number(resident));
        self.limit.set(number(limit));
        let before = self.course.pressure;
        let pressure = self.course.next(thousandths(resident, limit));
        if pressure == before {
            return;
        }
        self.pressure.set(pressure as i64);
        self.shared.memory.set(pressure);
        self.tell(pressure, &format!("{resident} of {limit} bytes of memory are in use"));
        if pressure > before {
            self.shared.directory.shrink();
            self.shared.tokens.shrink();
        }
    }

    fn tell(&self, pressure: MemoryPressure, use_of_it: &str) {
        match pressure {
            MemoryPressure::Low => {
                tracing::info!("{use_of_it}: that is enough again");
                self.readiness.ready("memory");
            }
            MemoryPressure::High => {
                tracing::warn!("{use_of_it}: caches shrink, and connections end after their answers");
                self.readiness.ready_but("memory", use_of_it);
            }
            MemoryPressure::Critical => {
                tracing::error!("{use_of_it}: requests are refused");
                self.readiness.unready("memory", format!("{use_of_it}: requests are refused"));
            }
        }
    }
}

fn number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Without a limit nothing is much.
fn thousandths(resident: u64, limit: u64) -> u64 {
    resident.saturating_mul(1000).checked_div(limit).unwrap_or(0)
}

/// Bytes of what can't be taken back, as the kernel tells it (proc(5), `/proc/pid/status`); all that is resident where
/// it does not tell them apart.
fn resident_in(status: &str) -> u64 {
    let bytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    };
    let own = bytes("RssAnon").map(|anonymous| anonymous + bytes("RssShmem").unwrap_or_default());
    own.or_else(|| bytes("VmRSS")).unwrap_or_default()
}

/// The least limit of the process's cgroup and those above it.
fn cgroup_limit() -> Option<u64> {
    limit_in(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The same, of `cgroups` as the kernel lists them (cgroups(7)). In a container the list may say where they are on the
/// host while `root` is the container's own: then only the last of those above is found, and it is the right one.
fn limit_in(root: &Path, cgroups: &str) -> Option<u64> {
    let files = cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, Path::new(fields.next()?.trim_start_matches('/')));
        let (mount, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            some if some.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        Some(path.ancestors().map(move |above| mount.join(above).join(file)))
    });
    let limits = files.flatten().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    limits.filter(|limit| *limit < UNLIMITED).min()
}

// === impl Course ===

impl Course {
    /// What a reading makes of it; `used` in thousandths of the limit.
    fn next(&mut self, used: u64) -> MemoryPressure {
        if used < CRITICAL_UNTIL {
            self.borne = None;
        }
        let is_critical = if self.pressure == MemoryPressure::Critical {
            self.stays_critical(used)
        } else {
            self.critical_for = 0;
            used >= self.borne.map_or(CRITICAL_FROM, |borne| CRITICAL_FROM.max(borne + GROWN))
        };
        let high_from = if self.pressure == MemoryPressure::Low { HIGH_FROM } else { HIGH_UNTIL };
        self.pressure = match used {
            _ if is_critical => MemoryPressure::Critical,
            used if used >= high_from => MemoryPressure::High,
            _ => MemoryPressure::Low,
        };
        self.pressure
    }

    fn stays_critical(&mut self, used: u64) -> bool {
        self.critical_for += 1;
        let is_tried = self.critical_for >= PATIENCE && used < TRIED_BELOW;
        if is_tried && used >= CRITICAL_UNTIL {
            self.borne = Some(used);
        }
        used >= CRITICAL_UNTIL && !is_tried
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Course, PATIENCE, limit_in, resident_in, thousandths};
    use crate::gateway::MemoryPressure::{self, Critical, High, Low};

    #[track_caller]
    fn check(course: &mut Course, readings: &[(u64, MemoryPressure)]) {
        for (used, expected) in readings {
            assert_eq!(course.next(*used), *expected, "{used} in {readings:?}");
        }
    }

    #[test]
    fn pressure_begins_at_its_mark_and_ends_well_below_it() {
        let up = [(0, Low), (799, Low), (800, High), (949, High), (950, Critical), (1_200, Critical)];
        let down = [(900, Critical), (899, High), (949, High), (750, High), (749, Low), (799, Low)];
        check(&mut Course::default(), &[up, down].concat());
        check(&mut Course::default(), &[(2_000, Critical), (100, Low)]);
    }

    #[test]
    fn requests_are_tried_again_and_refused_again_when_memory_grows() {
        let mut course = Course::default();
        for _ in 0..PATIENCE {
            check(&mut course, &[(960, Critical)]);
        }
        check(&mut course, &[(960, High), (969, High), (970, Critical), (899, High), (950, Critical)]);
    }

    #[test]
    fn at_the_limit_nothing_is_tried() {
        let mut course = Course::default();
        for _ in 0..PATIENCE * 3 {
            check(&mut course, &[(990, Critical)]);
        }
        check(&mut course, &[(989, High)]);
    }

    #[test]
    fn without_a_limit_nothing_is_much() {
        assert_eq!(
            [thousandths(u64::MAX, 0), thousandths(5, 10), thousandths(u64::MAX, 1)],
            [0, 500, u64::MAX]
        );
    }

    #[test]
    fn mapped_files_do_not_count_where_the_kernel_tells_them_apart() {
        let status = "Name:\ttollgate\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  790 kB\nRssShmem:\t   10 kB\n";
        assert_eq!(resident_in(status), 110 * 1024);
        assert_eq!(resident_in("VmRSS:\t  900 kB\n"), 900 * 1024);
    }

    #[test]
    fn the_least_limit_of_all_cgroups_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let check =
            |cgroups: &str, expected| assert_eq!(limit_in(root.path(), cgroups), expected, "{cgroups}");
        check("0::/a/b\n", None);
        write("a/b/memory.max", "max\n");
        check("0::/a/b\n", None);
        write("a/memory.max", "4096\n");
        check("0::/a/b\n", Some(4096));
        write("memory.max", "8192\n");
        check("0::/a/b\n", Some(4096));
        check("0::/elsewhere/on/the/host\n", Some(8192));
        write("memory/c/memory.limit_in_bytes", "2048\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        check("5:cpu:/c\n4:memory,pids:/c\n", Some(2048));
        check("4:memory:/d\n", None);
    }
}
