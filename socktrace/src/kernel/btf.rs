//! Questions to the kernel's BTF: where a field lies, what an enumerator is worth, how many
//! parameters a function has.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use btf_rs::{Backend, Btf, BtfType, Type};
use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;

use super::names;

/// Where the running kernel publishes its own BTF.
const RUNNING: &str = "/sys/kernel/btf/vmlinux";

/// The BTF could not be used.
#[derive(Debug, Error)]
pub enum BtfError {
    /// There is no such file, or it is no BTF.
    #[error(
        "cannot read kernel type information (BTF) from {}: {source}; \
         give a BTF file of this kernel with --btf, or use a kernel with CONFIG_DEBUG_INFO_BTF",
        path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: btf_rs::Error,
    },
}

/// The BTF of a kernel image.
pub struct KernelBtf {
    btf: Btf,
    path: PathBuf,
    /// Types by name, as far as they were asked for: finding a name goes through all of them.
    named: RefCell<HashMap<String, Vec<u32>>>,
}

impl KernelBtf {
    /// Opens `path`, or the running kernel's own BTF.
    pub fn open(path: Option<&Path>) -> Result<Self, BtfError> {
        let path = path.unwrap_or(Path::new(RUNNING)).to_path_buf();
        match Btf::from_file_with_backend(&path, Backend::Mmap).or_else(|error| remap(&path, error))
        {
            Ok(btf) => Ok(Self { btf, path, named: RefCell::default() }),
            Err(source) => Err(BtfError::Open { path, source }),
        }
    }

    /// The file this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Byte offset of a field: the structure's name, then one member name per level. Anonymous
    /// structures and unions in between are searched.
    pub fn field_offset(&self, structure: &str, members: &[&str]) -> Option<u32> {
        let mut current = self.structure(structure)?;
        let mut offset = 0;
        for (depth, member) in members.iter().enumerate() {
            let (at, kind) = self.member(&current, member)?;
            offset += at;
            if depth + 1 < members.len() {
                current = self.as_structure(kind)?;
            }
        }
        Some(offset / 8)
    }

    /// Finds all of these names at once, for the questions that follow: any other takes as long as all.
    pub fn look_up(&self, names: &[&str]) {
        let Ok(bytes) = fs::read(&self.path) else { return };
        let found = names::find(&bytes, names).unwrap_or_default();
        self.named.borrow_mut().extend(found.into_iter().map(|(name, ids)| (name.to_owned(), ids)));
    }

    /// Every type of this name, with its id.
    fn ids_and_types_named(&self, name: &str) -> Vec<(u32, Type)> {
        let mut named = self.named.borrow_mut();
        let find = || self.btf.resolve_ids_by_name(name).unwrap_or_default();
        let ids = named.entry(name.to_owned()).or_insert_with(find);
        ids.iter().filter_map(|id| Some((*id, self.btf.resolve_type_by_id(*id).ok()?))).collect()
    }

    fn types_named(&self, name: &str) -> Vec<Type> {
        self.ids_and_types_named(name).into_iter().map(|(_, kind)| kind).collect()
    }

    /// Whether there is any type of this name.
    pub fn has_type(&self, name: &str) -> bool {
        !self.types_named(name).is_empty()
    }

    fn structure(&self, name: &str) -> Option<btf_rs::Struct> {
        self.types_named(name).into_iter().find_map(|kind| match kind {
            Type::Struct(found) | Type::Union(found) => Some(found),
            _ => None,
        })
    }

    /// Bit offset and type of a member.
    fn member(&self, parent: &btf_rs::Struct, name: &str) -> Option<(u32, Type)> {
        for member in &parent.members {
            let found = self.btf.resolve_name(member).ok()?;
            if found == name {
                return Some((member.bit_offset(), self.btf.resolve_chained_type(member).ok()?));
            }
            if found.is_empty()
                && let Some(inner) = self.as_structure(self.btf.resolve_chained_type(member).ok()?)
                && let Some((at, kind)) = self.member(&inner, name)
            {
                return Some((member.bit_offset() + at, kind));
            }
        }
        None
    }

    /// Looks through typedefs, qualifiers and type tags.
    fn as_structure(&self, mut kind: Type) -> Option<btf_rs::Struct> {
        // A chain of qualifiers is short; a bound keeps a damaged file from looping.
        for _ in 0..16 {
            kind = match kind {
                Type::Struct(found) | Type::Union(found) => return Some(found),
                Type::Typedef(inner) => self.btf.resolve_chained_type(&inner).ok()?,
                Type::Volatile(inner) | Type::Const(inner) | Type::Restrict(inner) => {
                    self.btf.resolve_chained_type(&inner).ok()?
                }
                Type::TypeTag(inner) => self.btf.resolve_chained_type(&inner).ok()?,
                _ => return None,
            };
        }
        None
    }

    /// Value of an enumerator of a named enum.
    pub fn enum_value(&self, name: &str, enumerator: &str) -> Option<u32> {
        self.types_named(name).iter().find_map(|kind| self.enumerator(kind, enumerator))
    }

    /// Values of several enumerators of the anonymous enum whose first one is `first`.
    pub fn anonymous_enum(&self, first: &str, enumerators: &[&str]) -> Option<Vec<u32>> {
        let (start, end) = self.btf.base().type_id_range();
        let kind = (start..=end)
            .filter_map(|id| self.btf.resolve_type_by_id(id).ok())
            .find(|kind| self.is_anonymous_enum(kind, first))?;
        enumerators.iter().map(|name| self.enumerator(&kind, name)).collect()
    }

    fn is_anonymous_enum(&self, kind: &Type, first: &str) -> bool {
        let Type::Enum(found) = kind else { return false };
        found.get_name_offset().unwrap_or(0) == 0
            && found
                .members
                .first()
                .is_some_and(|member| self.btf.resolve_name(member).is_ok_and(|name| name == first))
    }

    fn enumerator(&self, kind: &Type, name: &str) -> Option<u32> {
        let Type::Enum(found) = kind else { return None };
        let member = found
            .members
            .iter()
            .find(|member| self.btf.resolve_name(*member).is_ok_and(|found| found == name))?;
        Some(member.val())
    }

    /// Number of parameters of a kernel function; `None` if the kernel has no such function.
    pub fn function_arity(&self, function: &str) -> Option<usize> {
        self.types_named(function).into_iter().find_map(|kind| {
            let Type::Func(function) = kind else { return None };
            match self.btf.resolve_chained_type(&function).ok()? {
                Type::FuncProto(prototype) => Some(prototype.parameters.len()),
                _ => None,
            }
        })
    }

    /// The id of a kernel function; `None` if the kernel has no such function.
    pub fn function_id(&self, function: &str) -> Option<u32> {
        let types = self.ids_and_types_named(function);
        types.into_iter().find_map(|(id, kind)| matches!(kind, Type::Func(_)).then_some(id))
    }

    /// A BTF file that has these functions only, by the ids that the kernel knows them by; those that it does not have are left out.
    /// aya goes through all types of a file for each program.
    pub fn file_of_functions(&self, functions: &[&str]) -> Vec<u8> {
        let ids = functions.iter().filter_map(|name| Some((self.function_id(name)?, *name)));
        names::file_of_functions(&ids.collect::<Vec<_>>()).unwrap_or_default()
    }

    /// What the kernel calls the type of a tracepoint's hooks.
    pub fn tracepoint_type(tracepoint: &str) -> String {
        format!("btf_trace_{tracepoint}")
    }

    /// Number of arguments of a tracepoint; `None` if the kernel has no such tracepoint.
    pub fn tracepoint_arity(&self, tracepoint: &str) -> Option<usize> {
        self.types_named(&Self::tracepoint_type(tracepoint)).into_iter().find_map(|kind| {
            let Type::Typedef(typedef) = kind else { return None };
            let Type::Ptr(pointer) = self.btf.resolve_chained_type(&typedef).ok()? else {
                return None;
            };
            match self.btf.resolve_chained_type(&pointer).ok()? {
                // The first one is the tracepoint's own data.
                Type::FuncProto(prototype) => prototype.parameters.len().checked_sub(1),
                _ => None,
            }
        })
    }
}

/// Before 6.16 the kernel's own BTF file cannot be mapped: then a copy in memory is, which is
/// still far cheaper than an index of all of it.
fn remap(path: &Path, error: btf_rs::Error) -> btf_rs::Result<Btf> {
    if !matches!(&error, btf_rs::Error::IO(io) if io.raw_os_error() == Some(libc::ENODEV)) {
        return Err(error);
    }
    let copy = memfd_create("btf", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(path)?, &mut copy)?;
    let alias = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Btf::from_file_with_backend(alias, Backend::Mmap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> KernelBtf {
        KernelBtf::open(None).expect("the running kernel has BTF")
    }

    #[test]
    fn fields_in_anonymous_unions_are_found() {
        let btf = running();
        // include/net/sock.h: the first member of sock_common is skc_addrpair's union.
        assert_eq!(btf.field_offset("sock", &["__sk_common", "skc_daddr"]), Some(0));
        assert_eq!(btf.field_offset("sock", &["__sk_common", "skc_rcv_saddr"]), Some(4));
        assert_eq!(btf.field_offset("sock", &["__sk_common", "skc_family"]), Some(16));
    }

    #[test]
    fn what_the_kernel_does_not_have_is_none() {
        let btf = running();
        assert_eq!(btf.field_offset("sock", &["no_such_field"]), None);
        assert_eq!(btf.field_offset("no_such_struct", &["x"]), None);
        assert_eq!(btf.function_arity("no_such_function"), None);
        assert_eq!(btf.tracepoint_arity("no_such_tracepoint"), None);
        assert_eq!(btf.anonymous_enum("NO_SUCH_ENUM", &[]), None);
    }

    #[test]
    fn prototypes_and_enumerators_are_found() {
        let btf = running();
        assert_eq!(btf.function_arity("inet_csk_listen_stop"), Some(1));
        assert_eq!(btf.tracepoint_arity("inet_sock_set_state"), Some(3));
        let values = btf.anonymous_enum("LINUX_MIB_NUM", &["LINUX_MIB_NUM"]);
        assert_eq!(values, Some(vec![0]));
    }

    #[test]
    fn what_was_looked_up_at_once_is_found_as_by_itself() {
        let (at_once, by_itself) = (running(), running());
        let names = ["sock", "tcp_v4_rcv", "btf_trace_inet_sock_set_state", "u32", "no_such_type"];
        at_once.look_up(&names);
        assert_eq!(at_once.named.borrow().len(), names.len(), "this kernel's BTF is read");
        for name in names {
            let ids = |btf: &KernelBtf| -> Vec<u32> {
                btf.ids_and_types_named(name).into_iter().map(|(id, _)| id).collect()
            };
            assert_eq!(ids(&at_once), ids(&by_itself), "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_btf_is_an_error_that_names_it() {
        let error = KernelBtf::open(Some(Path::new("/proc/self/status"))).err();
        assert!(error.is_some_and(|error| error.to_string().contains("/proc/self/status")));
    }
}
