//! One walk: the components of a path taken in turn, symlinks included.
//!
//! Owns the order of lookups (`link_path_walk()`, `step_into()`, `pick_link()`) and the bounds.
//! Does not wait: `view` gives it a thread and a time. The handles of all directories from the start
//! to here are kept, so `..` goes back to where the walk came from, and cannot be led outside by a
//! directory that is moved meanwhile.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::handle::{Crossing, Facts, open_child};
use super::mounts::{Mount, MountFact, is_local};
use super::view::{Start, View};
use super::{End, Kind, Step};

/// Symlinks that the kernel follows in one lookup (`MAXSYMLINKS`).
pub const MOST_LINKS: u32 = 40;
/// Steps of one walk. A path of connect(2) has at most 54 components; only symlinks lead further.
pub const MOST_STEPS: usize = 1024;
/// Directories below each other, a kept handle each.
pub const MOST_DEPTH: usize = 128;
/// Bytes of a path, without its NUL (`PATH_MAX`).
const MOST_PATH: usize = 4095;

/// Steps as they are made, for whoever does not wait for the last one.
#[derive(Clone, Default)]
pub(super) struct Trail(Arc<Mutex<Vec<Step>>>);

impl Trail {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<Step>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The steps so far.
    pub(super) fn take(&self) -> Vec<Step> {
        self.with(std::mem::take)
    }
}

/// The way to `path`, step by step into `trail`, and its end.
pub(super) fn walk(view: &View, path: &[u8], trail: &Trail) -> End {
    if path.len() > MOST_PATH {
        return End::NameTooLong;
    }
    let (start, name): (_, &[u8]) =
        if path.starts_with(b"/") { (&view.root, b"/") } else { (&view.cwd, b".") };
    let bottom = match Place::start(start, name) {
        Ok(place) => place,
        Err(end) => return end,
    };
    let mut walker = Walker {
        view,
        stack: vec![bottom],
        texts: vec![Text { bytes: path.to_vec(), at: 0 }],
        trail,
        links: 0,
        needs_directory: false,
    };
    walker.note_here();
    loop {
        if let Err(end) = walker.advance() {
            return end;
        }
    }
}

/// A path or a target of a symlink, and how far it is used up.
struct Text {
    bytes: Vec<u8>,
    at: usize,
}

impl Text {
    /// What is left, without slashes at its beginning.
    fn rest(&self) -> &[u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let slashes = rest.iter().take_while(|&&byte| byte == b'/').count();
        rest.get(slashes..).unwrap_or_default()
    }
}

/// The next name of the path.
struct Component {
    name: Vec<u8>,
    /// Nothing comes after it.
    trailing: bool,
    /// A slash comes after it.
    slash: bool,
}

/// An inode that the walk holds.
struct Place {
    handle: Arc<OwnedFd>,
    facts: Facts,
    mount: Option<MountFact>,
    path: Vec<u8>,
}

impl Place {
    /// With facts of now: those of the start may have changed since the view was made.
    fn start(start: &Start, path: &[u8]) -> Result<Self, End> {
        match start {
            Start::At(start) => Ok(Self {
                handle: start.handle.clone(),
                facts: Facts::read(&start.handle).map_err(End::Unreadable)?,
                mount: start.mount.clone(),
                path: path.to_vec(),
            }),
            Start::Not(end) => Err(end.clone()),
        }
    }

    fn step(&self, name: &[u8], trailing: bool) -> Step {
        Step {
            path: self.path.clone(),
            name: name.to_vec(),
            trailing,
            kind: self.facts.kind.clone(),
            mode: self.facts.mode,
            uid: self.facts.uid,
            gid: self.facts.gid,
            dev: self.facts.dev,
            inode: self.facts.inode,
            ctime: self.facts.ctime,
            acl: self.facts.acl.clone(),
            immutable: self.facts.immutable,
            mount: self.mount.clone(),
        }
    }

    fn is_on(&self, fs_type: &[u8]) -> bool {
        self.mount.as_ref().is_some_and(|mount| mount.fs_type == fs_type)
    }

    /// The same directory on the same mount.
    fn is_same(&self, other: &Facts) -> bool {
        let id = |facts: &Facts| (facts.dev, facts.inode, facts.mount);
        id(&self.facts) == id(other)
    }
}

/// The path of a child.
fn child_path(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"." => name.to_vec(),
        _ if directory.ends_with(b"/") => [directory, name].concat(),
        _ => [directory, b"/", name].concat(),
    }
}

struct Walker<'a> {
    view: &'a View,
    /// The directories from the start to here; never empty, the last one is where the walk is.
    stack: Vec<Place>,
    /// The path, and on top of it the targets of symlinks that are not used up.
    texts: Vec<Text>,
    trail: &'a Trail,
    links: u32,
    /// A trailing slash was passed: it holds for all that follows (`LOOKUP_DIRECTORY`).
    needs_directory: bool,
}

impl Walker<'_> {
    /// Takes one component. `Err` is the end of the walk.
    fn advance(&mut self) -> Result<(), End> {
        let component = self.next_component().ok_or(End::Found)?;
        if self.trail.with(|steps| steps.len()) >= MOST_STEPS || self.stack.len() >= MOST_DEPTH {
            return Err(End::TooManySteps);
        }
        match component.name.as_slice() {
            b"." => self.note_here(),
            b".." => self.go_up()?,
            _ => return self.look_up(&component),
        }
        Ok(())
    }

    fn next_component(&mut self) -> Option<Component> {
        while self.texts.last()?.rest().is_empty() {
            self.texts.pop();
        }
        let text = self.texts.last_mut()?;
        let rest = text.rest();
        let start = text.bytes.len() - rest.len();
        let name: Vec<u8> = rest.iter().copied().take_while(|&byte| byte != b'/').collect();
        text.at = start + name.len();
        let slash = text.at < text.bytes.len();
        let trailing = self.texts.iter().all(|text| text.rest().is_empty());
        Some(Component { name, trailing, slash })
    }

    /// Notes the directory that the walk is in.
    fn note_here(&mut self) {
        let step = self.stack.last().map(|place| place.step(b"", false));
        self.trail.with(|steps| steps.extend(step));
    }

    fn look_up(&mut self, component: &Component) -> Result<(), End> {
        let Some(directory) = self.stack.last() else { return Err(End::NoStart) };
        let opened = self.open(directory, &component.name);
        let place = opened.map_err(|end| match end {
            End::Missing { name, .. } => {
                End::Missing { name, last: component.trailing && !component.slash }
            }
            end => end,
        })?;
        let step = place.step(&component.name, component.trailing);
        self.trail.with(|steps| steps.push(step));
        self.needs_directory |= component.trailing && component.slash;
        match &place.facts.kind {
            Kind::Directory => {
                self.stack.push(place);
                Ok(())
            }
            Kind::Symlink { target } => {
                let target = target.clone();
                self.follow(&place, target)
            }
            _ if component.trailing && !self.needs_directory => Err(End::Found),
            _ => Err(End::NotADirectory),
        }
    }

    fn follow(&mut self, link: &Place, target: Vec<u8>) -> Result<(), End> {
        if self.links >= MOST_LINKS {
            return Err(End::TooManyLinks);
        }
        self.links += 1;
        // `self`, `fd/3` and the like: what they lead to depends on the task that follows.
        if link.is_on(b"proc") || link.is_on(b"nsfs") {
            return Err(End::Magic);
        }
        let mount = link.facts.mount.and_then(|id| self.view.mounts.by_id(id));
        if mount.is_some_and(Mount::forbids_links) {
            return Err(End::LinksForbidden);
        }
        if target.starts_with(b"/") {
            self.stack = vec![Place::start(&self.view.root, b"/")?];
        }
        self.note_here();
        self.texts.push(Text { bytes: target, at: 0 });
        Ok(())
    }

    /// `..`: at the root it stays (`follow_dotdot()`).
    fn go_up(&mut self) -> Result<(), End> {
        if self.stack.len() > 1 {
            self.stack.pop();
        } else if let Some(bottom) = self.stack.first().filter(|bottom| !self.is_root(bottom)) {
            // Above the working directory, where the walk has not been.
            self.stack = vec![self.open_parent(bottom)?];
        }
        self.note_here();
        Ok(())
    }

    fn is_root(&self, place: &Place) -> bool {
        match &self.view.root {
            _ if place.path == b"/" => true,
            Start::At(root) => place.is_same(&root.facts),
            Start::Not(_) => false,
        }
    }

    fn open(&self, directory: &Place, name: &[u8]) -> Result<Place, End> {
        let path = child_path(&directory.path, name);
        let expected = match directory.facts.mount {
            Some(id) if path.starts_with(b"/") => self.view.mounts.topmost_at(id, &path),
            _ => None,
        };
        let (handle, expected) = match expected {
            Some(mount) => (cross(directory, name, mount)?, vec![mount]),
            None => match open_child(&*directory.handle, name, Crossing::Refused) {
                Err(Errno::EXDEV) => self.cross_somewhere(directory, name, &path)?,
                opened => (opened.map_err(|errno| refusal(errno, name))?, Vec::new()),
            },
        };
        let facts = Facts::read(&handle).map_err(|errno| refusal(errno, name))?;
        let mount = if expected.is_empty() {
            directory.mount.clone()
        } else {
            let came_by = expected.iter().find(|mount| facts.mount == Some(mount.id));
            Some(came_by.ok_or(End::Vanished)?.fact())
        };
        Ok(Place { handle: Arc::new(handle), facts, mount, path })
    }

    /// Over a mount point whose path from the root is not known. Where it is known, the table would
    /// have had it: the mount is newer.
    fn cross_somewhere(
        &self,
        directory: &Place,
        name: &[u8],
        path: &[u8],
    ) -> Result<(OwnedFd, Vec<&Mount>), End> {
        if path.starts_with(b"/") {
            return Err(End::Vanished);
        }
        let id = directory.facts.mount.ok_or(End::Vanished)?;
        let mounts = self.view.mounts.named(id, name);
        let doubtful = mounts.iter().find(|mount| !is_local(&mount.fs_type));
        let first = doubtful.or(mounts.first()).ok_or(End::Vanished)?;
        Ok((cross(directory, name, first)?, mounts))
    }

    fn open_parent(&self, place: &Place) -> Result<Place, End> {
        let path = match place.path.as_slice() {
            b"." => b"..".to_vec(),
            path => [path, b"/.."].concat(),
        };
        let known = |id: Option<u64>| self.view.mounts.by_id(id?);
        let handle = match open_child(&*place.handle, b"..", Crossing::Refused) {
            Err(Errno::EXDEV) => {
                let below = known(place.facts.mount).ok_or(End::Vanished)?;
                let parent = known(Some(below.parent)).ok_or(End::Vanished)?;
                cross(place, b"..", parent)?
            }
            opened => opened.map_err(|errno| refusal(errno, b".."))?,
        };
        let facts = Facts::read(&handle).map_err(|errno| refusal(errno, b".."))?;
        if facts.mount == place.facts.mount {
            let mount = place.mount.clone();
            return Ok(Place { handle: Arc::new(handle), facts, mount, path });
        }
        let mount = known(facts.mount).filter(|mount| is_local(&mount.fs_type));
        let mount = Some(mount.ok_or(End::Vanished)?.fact());
        Ok(Place { handle: Arc::new(handle), facts, mount, path })
    }
}

/// Onto a mount, if it is local.
fn cross(directory: &Place, name: &[u8], mount: &Mount) -> Result<OwnedFd, End> {
    if !is_local(&mount.fs_type) {
        let (fs_type, path) = (mount.fs_type.clone(), mount.point.clone());
        return Err(End::Foreign { fs_type, path });
    }
    open_child(&*directory.handle, name, Crossing::Allowed).map_err(|errno| refusal(errno, name))
}

fn refusal(errno: Errno, name: &[u8]) -> End {
    match errno {
        Errno::ENOENT => End::Missing { name: name.to_vec(), last: false },
        Errno::ENAMETOOLONG => End::NameTooLong,
        errno => End::Unreadable(errno),
    }
}
