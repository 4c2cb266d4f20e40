# The Rust crates that a source package carries.
#
# Rscript tools/crates.R notes         writes LICENSE.note and inst/AUTHORS
# Rscript tools/crates.R check         fails if these two are not those of src/rust/Cargo.lock
# Rscript tools/crates.R bundle FILE   packs the crates' sources into FILE (.tar.xz)
manifest <- "src/rust/Cargo.toml"
# Systems that R runs on; what only others need is left out. A new crate needs no change here.
targets <- c(
  "x86_64-unknown-linux-gnu",
  "aarch64-unknown-linux-gnu",
  "x86_64-apple-darwin",
  "aarch64-apple-darwin",
  "x86_64-pc-windows-gnu"
)

cargo <- function(...) {
  out <- system2("cargo", c(..., "--locked", "--manifest-path", manifest), stdout = TRUE)
  if (!is.null(attr(out, "status"))) {
    stop("cargo failed: ", paste(c(...), collapse = " "))
  }
  out
}

# Crates that compiling the package takes on any of the systems: name, version, features.
needed_crates <- function() {
  tree <- lapply(targets, \(target) {
    shape <- c("--prefix", "none", "--no-dedupe", "--format", shQuote("{p}|{f}"))
    cargo("tree", "--package", "patina-r", "--edges", "normal,build", "--target", target, shape)
  })
  parts <- strsplit(unique(unlist(tree)), "|", fixed = TRUE)
  name <- vapply(parts, \(part) sub(" .*", "", part[[1L]]), "")
  crates <- data.frame(
    name = name,
    version = vapply(parts, \(part) sub("^[^ ]+ v([^ ]+).*", "\\1", part[[1L]]), ""),
    features = vapply(parts, \(part) if (length(part) > 1L) part[[2L]] else "", "")
  )
  crates <- crates[!startsWith(name, "patina"), ]
  crates <- stats::aggregate(features ~ name + version, crates, paste, collapse = ",")
  crates[order(crates$name, crates$version, method = "radix"), ]
}

# Notes ---------------------------------------------------------------------------------------------

# The two files' lines, by path.
notes <- function() {
  json <- paste(cargo("metadata", "--format-version", "1"), collapse = "")
  packages <- jsonlite::fromJSON(json, simplifyVector = FALSE)$packages
  names(packages) <- vapply(packages, \(package) paste(package$name, package$version), "")
  crates <- needed_crates()
  packages <- packages[paste(crates$name, crates$version)]
  authors <- vapply(packages, authors_of, "")
  licence <- vapply(packages, \(package) package$license %||% "see its file LICENSE", "")
  list(
    "inst/AUTHORS" = c(
      "Authors of the Rust crates that source packages of patina carry and that are compiled into it:",
      "",
      sprintf("%s: %s", names(packages), authors)
    ),
    "LICENSE.note" = c(
      "patina is under the MIT license (see LICENSE). Compiled into it are Rust crates by other authors, each",
      "under a license of its own. Their sources, with the license texts, are in src/rust/vendor.tar.xz of a",
      "source package, and at https://crates.io.",
      unlist(lapply(seq_along(packages), \(i) {
        c(
          "",
          paste("Crate:  ", names(packages)[[i]]),
          paste("Authors:", authors[[i]]),
          paste("License:", licence[[i]]),
          paste(
            "Source: ",
            packages[[i]]$repository %||% paste0("https://crates.io/crates/", packages[[i]]$name)
          )
        )
      }))
    )
  )
}

`%||%` <- function(x, y) if (is.null(x)) y else x

authors_of <- function(package) {
  authors <- trimws(gsub("<[^>]*>", "", unlist(package$authors)))
  if (length(authors) > 0L) paste(authors, collapse = ", ") else paste("the authors of", package$name)
}

# Bundle --------------------------------------------------------------------------------------------

# Cargo resolves the whole lock file, so that crates which no build needs stay, as stubs without code.
bundle <- function(file) {
  vendor <- file.path(tempfile("crates"), "vendor")
  dir.create(dirname(vendor))
  cargo("vendor", "--quiet", "--versioned-dirs", shQuote(vendor))
  crates <- needed_crates()
  features <- stats::setNames(crates$features, paste0(crates$name, "-", crates$version))
  for (folder in list.files(vendor, full.names = TRUE)) {
    crate <- basename(folder)
    prune(folder, if (crate %in% names(features)) strsplit(features[[crate]], ",")[[1L]])
  }
  file <- file.path(normalizePath(dirname(file)), basename(file))
  order <- c("--sort=name", "--mtime=2020-01-01", "--owner=0", "--group=0", "--numeric-owner")
  status <- system2(
    "tar",
    c(order, "-C", shQuote(dirname(vendor)), "-cJf", shQuote(file), "vendor"),
    env = "XZ_OPT=-9"
  )
  if (status != 0L) {
    stop("tar could not write ", file)
  }
  cat(sprintf(
    "%s: %.2f MB, %d crates and %d stubs\n",
    file,
    file.size(file) / 1e6,
    nrow(crates),
    length(list.files(vendor)) - nrow(crates)
  ))
}

# Leaves of a crate what a build reads, and its licence; of one without features (`NULL`) the manifest.
prune <- function(folder, features) {
  files <- list.files(folder, recursive = TRUE, all.files = TRUE)
  licence <- grepl("^(LICEN[SC]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", files, ignore.case = TRUE)
  manifest <- files %in% c("Cargo.toml", ".cargo-checksum.json")
  kept <- if (is.null(features)) {
    manifest
  } else {
    idle <- "^(tests?|benches|examples?|docs?|ci|\\.github|assets|images|fuzz|katex[^/]*)/|^\\."
    text <- grepl("\\.(md|png|svg|html|yml|yaml|lock|orig|sh|py|css|js|ipynb)$", files)
    manifest | licence | !(grepl(idle, files) | text | unused_system(basename(folder), files, features))
  }
  # source text that a crate reads in, such as its README as documentation
  read_in <- unlist(lapply(file.path(folder, files[kept & grepl("\\.rs$", files)]), \(path) {
    lines <- readLines(path, warn = FALSE)
    found <- regmatches(lines, regexpr("include_(str|bytes)!\\(\"[^\"]+\"", lines))
    file.path(dirname(path), sub(".*\"(.*)\"", "\\1", found))
  }))
  kept <- kept |
    normalizePath(file.path(folder, files)) %in% suppressWarnings(normalizePath(as.character(read_in)))
  checksum <- readLines(file.path(folder, ".cargo-checksum.json"), warn = FALSE)
  unlink(file.path(folder, files[!kept]), force = TRUE)
  if (is.null(features)) {
    library_path <- sub(
      ".*\n\\[lib\\][^[]*\npath = \"([^\"]+)\".*",
      "\\1",
      paste(
        readLines(file.path(folder, "Cargo.toml"), warn = FALSE),
        collapse = "\n"
      )
    )
    stub <- file.path(folder, if (grepl("\n", library_path)) "src/lib.rs" else library_path)
    dir.create(dirname(stub), recursive = TRUE, showWarnings = FALSE)
    file.create(stub)
  }
  # The crate's own checksum stays, those of its files went with the files.
  writeLines(
    sub(".*(\"package\":\"[0-9a-f]+\").*", "{\"files\":{},\\1}", paste(checksum, collapse = "")),
    file.path(folder, ".cargo-checksum.json")
  )
}

# Files of crates for operating systems that are read on some of them only: `mod` items under a `cfg` that
# is false need no file.
unused_system <- function(crate, files, features) {
  if (startsWith(crate, "libc-")) {
    others <- c(
      "fuchsia",
      "hermit",
      "psp",
      "qurt",
      "sgx",
      "solid",
      "switch",
      "teeos",
      "trusty",
      "vxworks",
      "wasi",
      "xous",
      "aix",
      "cygwin",
      "haiku",
      "hurd",
      "newlib",
      "nto",
      "nuttx",
      "redox",
      "solarish",
      "emscripten",
      "l4re",
      "android",
      "horizon",
      "espidf",
      "vita",
      "rtems",
      "uclibc",
      "ohos"
    )
    return(vapply(strsplit(files, "[/.]"), \(parts) any(parts %in% others), NA))
  }
  if (startsWith(crate, "windows-sys-")) {
    module <- gsub("/", "_", sub("^src/Windows/(.*/)?[^/]*$", "\\1", files))
    module <- sub("_$", "", module)
    inside <- startsWith(files, "src/Windows/") & nzchar(module)
    wanted <- vapply(module, \(name) any(features == name | startsWith(features, paste0(name, "_"))), NA)
    return(inside & !wanted)
  }
  logical(length(files))
}

# ---------------------------------------------------------------------------------------------------

arguments <- commandArgs(TRUE)
switch(
  arguments[1L],
  notes = {
    files <- notes()
    for (path in names(files)) {
      writeLines(files[[path]], path)
    }
  },
  check = {
    files <- notes()
    old <- Filter(\(path) !file.exists(path) || !identical(readLines(path), files[[path]]), names(files))
    if (length(old) > 0L) {
      cat(old, "differ from src/rust/Cargo.lock: run `Rscript tools/crates.R notes`\n")
      quit(status = 1L)
    }
  },
  bundle = bundle(arguments[2L]),
  stop("say notes, check or bundle FILE")
)
