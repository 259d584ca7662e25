//! Takes DWARF out of the linked eBPF object: three quarters of its size, and no loader reads it.
//!
//! BTF and its line info, which the verifier's log quotes, stay.

use anyhow::{Context as _, Result};
use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The object without its `.debug_*` sections and their relocations.
pub(crate) fn without_dwarf(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object).context("the linked object is no ELF file")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    // The section symbols of what is gone.
    builder.delete_orphans();
    // LLVM keeps section and symbol names in one table; the writer wants one each.
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("the object was not written without DWARF")?;
    Ok(stripped)
}
