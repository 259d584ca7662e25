//! The directories that services have made for them, and what hides their files: systemd.exec(5).
//!
//! Owns `RuntimeDirectory=` and its kin of `.service` units. Does not own what they run.

use super::super::Host;
use super::files::UnitText;
use super::syntax::{Assignment, assignments, expand, is_in, list, mode, normal_path, switch};

/// Directories that are kept of one unit.
const MOST_DIRECTORIES: usize = 1024;

/// A `.service` unit, as far as it decides about sockets. What it does not set has systemd's
/// default.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the unit")]
pub struct ServiceUnit {
    /// Its name, raw.
    pub name: Vec<u8>,
    /// It is masked and cannot be started; the rest is what it would be.
    pub masked: bool,
    /// Directories that are made when it starts, and removed when it stops unless
    /// `runtime_directories_stay`: absolute paths, made normal. Not a template's that depend on the
    /// instance.
    pub runtime_directories: Vec<Vec<u8>>,
    /// Their mode.
    pub runtime_directory_mode: u32,
    /// They stay when it stops (`RuntimeDirectoryPreserve=yes`).
    pub runtime_directories_stay: bool,
    /// Who it runs as, and who owns them; `None`: root, or with `dynamic_user` a made-up user.
    pub user: Option<Vec<u8>>,
    /// Its group; `None`: the main one of `user`.
    pub group: Option<Vec<u8>>,
    /// It has a `/tmp` and `/var/tmp` of its own: socket files that it makes there are seen by no
    /// other. `DynamicUser=` implies it.
    pub private_tmp: bool,
    /// It runs as a user that exists while it does.
    pub dynamic_user: bool,
}

/// Every `.service` unit of the system's manager.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ServiceUnits {
    /// By name.
    pub units: Vec<ServiceUnit>,
    /// Files and directories that could not be read, or were too long or too many.
    pub unread: u32,
}

impl Host {
    /// Reads every `.service` unit.
    pub fn read_service_units(&self) -> ServiceUnits {
        let (texts, unread) = self.read_unit_texts("service");
        ServiceUnits { units: texts.iter().map(parse_unit).collect(), unread }
    }
}

impl ServiceUnits {
    /// The services whose runtime directory `path` is, or is in.
    pub fn by_runtime_directory(&self, path: &[u8]) -> Vec<&ServiceUnit> {
        let Some(path) = normal_path(path) else { return Vec::new() };
        let has =
            |unit: &&ServiceUnit| unit.runtime_directories.iter().any(|dir| is_in(&path, dir));
        self.units.iter().filter(has).collect()
    }

    /// The service of a name.
    pub fn by_name(&self, name: &[u8]) -> Option<&ServiceUnit> {
        self.units.iter().find(|unit| unit.name == name)
    }
}

fn parse_unit(text: &UnitText) -> ServiceUnit {
    let mut unit = ServiceUnit {
        name: text.name.clone(),
        masked: text.masked,
        runtime_directories: Vec::new(),
        runtime_directory_mode: 0o755,
        runtime_directories_stay: false,
        user: None,
        group: None,
        private_tmp: false,
        dynamic_user: false,
    };
    let all = text.texts.iter().flat_map(|text| assignments(text));
    for assignment in all.filter(|one| one.section == b"Service") {
        unit.assign(&assignment);
    }
    unit.private_tmp |= unit.dynamic_user;
    unit
}

impl ServiceUnit {
    fn assign(&mut self, Assignment { key, value, .. }: &Assignment) {
        let text = || expand(value, &self.name).filter(|text| !text.is_empty());
        match key.as_slice() {
            b"RuntimeDirectory" => self.add_directories(value),
            b"RuntimeDirectoryMode" => {
                self.runtime_directory_mode = mode(value).unwrap_or(self.runtime_directory_mode);
            }
            // `restart` keeps them over a restart, not over a stop.
            b"RuntimeDirectoryPreserve" if value == b"restart" => {
                self.runtime_directories_stay = false;
            }
            b"RuntimeDirectoryPreserve" => {
                self.runtime_directories_stay =
                    switch(value).unwrap_or(self.runtime_directories_stay);
            }
            b"User" => self.user = text(),
            b"Group" => self.group = text(),
            b"DynamicUser" => self.dynamic_user = switch(value).unwrap_or(self.dynamic_user),
            b"PrivateTmp" => {
                self.private_tmp = parse_private_tmp(value).unwrap_or(self.private_tmp);
            }
            _ => {}
        }
    }

    /// Names below `/run`, each with an optional `:LINK` or `:LINK:FLAGS`; an empty list resets.
    fn add_directories(&mut self, value: &[u8]) {
        if value.is_empty() {
            self.runtime_directories.clear();
        }
        let room = MOST_DIRECTORIES.saturating_sub(self.runtime_directories.len());
        let names = list(value).filter_map(|word| word.split(|&byte| byte == b':').next());
        let paths = names.filter_map(|name| {
            let name = expand(name, &self.name).filter(|name| !name.is_empty())?;
            normal_path(&[b"/run/".as_slice(), &name].concat())
        });
        let paths: Vec<_> = paths.take(room).collect();
        self.runtime_directories.extend(paths);
    }
}

/// A switch, or `disconnected`, which hides as well.
fn parse_private_tmp(value: &[u8]) -> Option<bool> {
    if value == b"disconnected" { Some(true) } else { switch(value) }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn a_missing_directory_is_told_to_be_a_services() {
        let (_root, host) = fake::host(&[
            (
                "lib/systemd/system/db.service",
                "[Service]\nUser=db\nGroup=data\nRuntimeDirectory=old\nRuntimeDirectory=\n\
                 RuntimeDirectory=db %p/sub:link\nRuntimeDirectoryMode=2750\nPrivateTmp=yes\n",
            ),
            ("lib/systemd/system/dyn.service", "[Service]\nDynamicUser=1\nRuntimeDirectory=dyn\n"),
            ("lib/systemd/system/t@.service", "[Service]\nRuntimeDirectory=t-%i\nUser=%i\n"),
        ]);
        let db = ServiceUnit {
            name: b"db.service".to_vec(),
            masked: false,
            runtime_directories: vec![b"/run/db".to_vec(), b"/run/db/sub".to_vec()],
            runtime_directory_mode: 0o2750,
            runtime_directories_stay: false,
            user: Some(b"db".to_vec()),
            group: Some(b"data".to_vec()),
            private_tmp: true,
            dynamic_user: false,
        };
        let all = host.read_service_units();
        assert_eq!(all.by_runtime_directory(b"/var/run/db/x.sock"), [&db]);
        assert_eq!((all.units.len(), all.unread), (3, 0));
        assert!(all.by_runtime_directory(b"/run/db2").is_empty());
        let dynamic = all.by_name(b"dyn.service").expect("the unit");
        assert!(dynamic.private_tmp && dynamic.user.is_none());
        let template = all.by_name(b"t@.service").expect("the unit");
        assert!(template.runtime_directories.is_empty() && template.user.is_none());
    }

    #[test]
    fn only_yes_keeps_directories_over_a_stop() {
        for (text, stay) in [("yes", true), ("restart", false), ("no", false)] {
            let text = format!("[Service]\nRuntimeDirectoryPreserve={text}\n");
            let (_root, host) = fake::host(&[("etc/systemd/system/a.service", &text)]);
            let all = host.read_service_units();
            assert_eq!(all.by_name(b"a.service").expect("it").runtime_directories_stay, stay);
        }
    }
}
