# Writes R/extendr-wrappers.R from the compiled library: run in the package's root after a Rust
# function was added or changed, with the package installed. `make document` does.
library(patina)
lines <- .Call(
  getNativeSymbolInfo("wrap__make_patina_wrappers", "patina"),
  use_symbols = TRUE,
  package_name = "patina"
)
lines <- gsub("(?m)^#' @(docType|usage|useDynLib).*\n", "", lines, perl = TRUE)
lines <- strsplit(lines, "\n", fixed = TRUE)[[1]]
path <- "R/extendr-wrappers.R"
if (!file.exists(path) || !identical(lines, readLines(path))) {
  writeLines(lines, path)
}
