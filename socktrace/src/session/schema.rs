//! The JSON Schema of a line, from its types.

use super::format::Line;

/// What `report --schema` prints. A line of a newer socktrace may have kinds and fields that are not in it.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Line).to_value()
}
