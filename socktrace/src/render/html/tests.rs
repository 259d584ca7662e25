pub(super) fn empty_page() -> String {
    String::new()
}
