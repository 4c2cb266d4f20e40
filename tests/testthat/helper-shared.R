# Files that some tests need and the package does not contain: real data and reference results.

data_path <- function(file) {
  shared_file(file, "PATINA_DATA", "data")
}

reference_path <- function(file) {
  shared_file(file, "PATINA_REFERENCE", "reference")
}

# Looks in the folder that an environment variable names, else in shared/<folder> beside the
# package or above. A missing file skips the test, but fails it under CI.
shared_file <- function(file, variable, folder) {
  named <- Sys.getenv(variable)
  folders <- if (nzchar(named)) {
    named
  } else {
    above <- normalizePath(testthat::test_path())
    parents <- character()
    while (dirname(above) != above) {
      above <- dirname(above)
      parents <- c(parents, file.path(above, "shared", folder))
    }
    parents
  }
  found <- Filter(file.exists, file.path(folders, file))
  if (length(found) > 0L) {
    return(found[[1L]])
  }
  hint <- sprintf("%s not found: set %s to its folder", file, variable)
  if (nzchar(Sys.getenv("CI"))) {
    stop(hint, call. = FALSE)
  }
  testthat::skip(hint)
}
