# Writes R/extendr-wrappers.R from the compiled library: run in the package's root after a Rust
# function was added or changed, with the package installed.
library(patina)
lines <- .Call(
  getNativeSymbolInfo("wrap__make_patina_wrappers", "patina"),
  use_symbols = TRUE,
  package_name = "patina"
)
lines <- gsub("(?m)^#' @(docType|usage|useDynLib).*\n", "", lines, perl = TRUE)
writeLines(lines, "R/extendr-wrappers.R")
