//! The projector processes of a run, and who starts them again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use refold_chaos::Version;

use crate::cli::Failure;
use crate::cli::Kind;
use crate::demo::LIVE;
use crate::demo::NEW;
use crate::demo::Role;
use crate::demo::scene::Scene;
use crate::failpoint::ARM;
use crate::failpoint::DIRECTORY_VARIABLE;
use crate::failpoint::FIRED;

/// How long a projector that was fenced off may take to end.
const FENCED_WITHIN: Duration = Duration::from_secs(30);

/// The process of one version.
struct Seat {
    mode: Vec<String>,
    role: Role,
    /// Where its failpoints are armed.
    arms: PathBuf,
}

/// The processes by version.
pub(super) struct Crew {
    dir: PathBuf,
    seats: BTreeMap<&'static str, Seat>,
    started: u64,
    unasked: u64,
    /// Most resident memory that any of the processes was seen with.
    peak_bytes: u64,
}

/// The label of a version.
pub(super) const fn label(version: Version) -> &'static str {
    match version {
        Version::Live => LIVE,
        Version::New => NEW,
    }
}

impl Crew {
    /// None yet; failpoints are armed in directories below `dir`.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            seats: BTreeMap::new(),
            started: 0,
            unasked: 0,
            peak_bytes: 0,
        }
    }

    /// Starts the projector of a version, and takes the place of one that there was.
    pub(super) fn start(
        &mut self,
        scene: &Scene,
        version: &'static str,
        mode: &[String],
    ) -> Result<(), Failure> {
        let seat = self.spawn(scene, version, mode)?;
        self.seats.insert(version, seat);
        Ok(())
    }

    fn spawn(&mut self, scene: &Scene, version: &str, mode: &[String]) -> Result<Seat, Failure> {
        self.started += 1;
        let number = self.started;
        let arms = self.dir.join(number.to_string());
        fs::create_dir_all(&arms)
            .map_err(|error| Failure::error(&format!("create {}", arms.display()), error))?;
        let name = format!("projector-{version}-{number}");
        let env: [(&str, &Path); 1] = [(DIRECTORY_VARIABLE, &arms)];
        Ok(Seat {
            mode: mode.to_vec(),
            role: scene.start_projector(&name, version, mode, &env)?,
            arms,
        })
    }

    /// How often a projector ended that nobody had ended.
    pub(super) fn unasked(&self) -> u64 {
        self.unasked
    }

    /// The processes that are there.
    pub(super) fn roles(&self) -> impl Iterator<Item = &Role> {
        self.seats.values().map(|seat| &seat.role)
    }

    /// Most resident memory of one process, in bytes.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Starts those again that ended, as whoever runs processes would.
    pub(super) fn tend(&mut self, scene: &Scene) -> Result<(), Failure> {
        let peaks = self
            .seats
            .values()
            .map(|seat| seat.role.peak_memory_bytes());
        self.peak_bytes = peaks.fold(self.peak_bytes, u64::max);
        let ended = |(version, seat): (&&'static str, &mut Seat)| {
            let why = seat.role.check().err()?;
            Some((*version, seat.mode.clone(), why))
        };
        let ended: Vec<_> = self.seats.iter_mut().filter_map(ended).collect();
        for (version, mode, why) in ended {
            scene.note(&format!("starts again: {why}"));
            self.unasked += 1;
            self.start(scene, version, &mode)?;
        }
        Ok(())
    }

    fn seat(&mut self, version: Version) -> Result<&mut Seat, Failure> {
        let missing = || Failure::new(Kind::Error, "a fault hits a version that does not run");
        self.seats.get_mut(label(version)).ok_or_else(missing)
    }

    fn restart(&mut self, scene: &Scene, version: Version) -> Result<(), Failure> {
        let mode = self.seat(version)?.mode.clone();
        self.start(scene, label(version), &mode)
    }

    /// SIGKILL, and the next process.
    pub(super) async fn kill(&mut self, scene: &Scene, version: Version) -> Result<(), Failure> {
        self.seat(version)?.role.kill().await?;
        self.restart(scene, version)
    }

    /// SIGTERM, the drain, and the next process.
    pub(super) async fn drain(&mut self, scene: &Scene, version: Version) -> Result<(), Failure> {
        self.seat(version)?.role.stop().await?;
        self.restart(scene, version)
    }

    /// SIGSTOP.
    pub(super) fn pause(&mut self, version: Version) -> Result<(), Failure> {
        self.seat(version)?.role.pause()
    }

    /// SIGCONT.
    pub(super) fn resume(&mut self, version: Version) -> Result<(), Failure> {
        self.seat(version)?.role.resume()
    }

    /// Starts a successor beside the process that is there, which is handed out.
    pub(super) fn replace(&mut self, scene: &Scene, version: Version) -> Result<Role, Failure> {
        let mode = self.seat(version)?.mode.clone();
        let next = self.spawn(scene, label(version), &mode)?;
        Ok(std::mem::replace(self.seat(version)?, next).role)
    }

    /// Arms a failpoint in the process of a version.
    pub(super) fn arm(&mut self, version: Version, failpoint: &str) -> Result<(), Failure> {
        let arms = self.seat(version)?.arms.clone();
        let (partial, whole) = (arms.join("partial"), arms.join(ARM));
        let fired = arms.join(FIRED);
        if fired.exists() {
            fs::remove_file(&fired).map_err(|error| Failure::error("arm a failpoint", error))?;
        }
        // Renamed as a whole: half a failpoint is none.
        let written = fs::write(&partial, failpoint).and_then(|()| fs::rename(&partial, &whole));
        written.map_err(|error| Failure::error("arm a failpoint", error))
    }

    /// Whether the failpoint that was armed last has fired.
    pub(super) fn has_fired(&mut self, version: Version) -> Result<bool, Failure> {
        Ok(self.seat(version)?.arms.join(FIRED).exists())
    }

    /// Waits for the end of a process that the kernel was told to kill, and starts the next.
    pub(super) async fn bury(&mut self, scene: &Scene, version: Version) -> Result<(), Failure> {
        let ended = self.seat(version)?.role.finish(FENCED_WITHIN).await;
        match ended {
            Err(_) => self.restart(scene, version),
            Ok(()) => Err(Failure::new(
                Kind::Error,
                "a projector that was to be killed at a point ended as if it were done",
            )),
        }
    }

    /// Ends all, gently.
    pub(super) async fn end(&mut self) -> Result<(), Failure> {
        let mut first = Ok(());
        while let Some((_, mut seat)) = self.seats.pop_first() {
            first = first.and(seat.role.stop().await);
        }
        first
    }
}

/// Continues a process that another one has taken over from: it has to notice, say so and end.
pub(super) async fn wake(mut zombie: Role) -> Result<(), Failure> {
    zombie.resume()?;
    let ended = zombie.finish(FENCED_WITHIN).await;
    let said = ended
        .err()
        .map(|failure| failure.sentence)
        .unwrap_or_default();
    if said.contains("fenced off") {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Error,
        format!("a stopped projector went on after its successor had taken over: {said}"),
    ))
}
