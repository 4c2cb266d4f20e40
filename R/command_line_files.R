# The tables that the command line reads and writes.

# Paths -------------------------------------------------------------------------------------------

#' Paths that are the same if the files are, whether they exist or not
#' @noRd
true_paths <- function(paths) {
  folders <- normalizePath(dirname(paths), mustWork = FALSE)
  ifelse(file.exists(paths), normalizePath(paths, mustWork = FALSE), file.path(folders, basename(paths)))
}

check_writable <- function(path) {
  folder <- dirname(path)
  if (!dir.exists(folder) || file.access(folder, 2L) != 0L) {
    command_line_error("Cannot write {path}: {folder} is not a folder one can write to.")
  }
  if (dir.exists(path)) {
    command_line_error("Cannot write {path}: it is a folder.")
  }
}

# Reading -----------------------------------------------------------------------------------------

separator_of <- function(path, header) {
  bare <- sub("\\.gz$", "", tolower(path))
  if (grepl("\\.csv$", bare)) {
    ","
  } else if (grepl("\\.(tsv|tab)$", bare) || grepl("\t", header, fixed = TRUE)) {
    "\t"
  } else {
    ","
  }
}

#' A table with names in its first row and column
#'
#' @param numeric Whether all but the names must be numbers.
#' @return A data.frame whose row names are the first column.
#' @noRd
read_named_table <- function(path, numeric) {
  named <- path
  path <- regular_file(path)
  if (!file.exists(path) || dir.exists(path)) {
    command_line_error("Cannot read {path}: there is no such file.")
  }
  unreadable <- function(cnd) {
    reason <- plain_reason(conditionMessage(cnd))
    command_line_error("Cannot read {named}: {reason}.")
  }
  # Warnings count: a damaged archive gives one, and whatever came before it.
  tryCatch(
    {
      con <- gzfile(path, "rt")
      on.exit(close(con))
      header <- readLines(con, 1L, warn = FALSE)
      second <- readLines(con, 1L, warn = FALSE)
      if (length(second) == 0L) {
        stop("it holds no row below the header")
      }
      separator <- separator_of(path, header)
      cells <- function(line) {
        scan(text = line, what = "", sep = separator, quiet = TRUE, quote = "\"")
      }
      columns <- cells(header)
      width <- length(cells(second))
      if (width == length(columns)) {
        columns <- columns[-1L]
      } else if (width != length(columns) + 1L) {
        stop(sprintf("the header has %d cells, the next row %d", length(columns), width))
      }
      if (length(columns) == 0L) {
        stop("it has only one column; are the cells separated by commas or tabs")
      }
      pushBack(second, con)
      what <- c(list(""), rep(list(if (numeric) 0 else ""), length(columns)))
      read <- scan(
        con,
        what = what,
        sep = separator,
        quote = "\"",
        quiet = TRUE,
        multi.line = FALSE,
        strip.white = TRUE
      )
    },
    error = unreadable,
    warning = unreadable
  )
  repeated <- unique(read[[1L]][duplicated(read[[1L]])])
  if (length(repeated) > 0L) {
    command_line_error("Cannot read {named}: row names occur twice ({.val {first_few(repeated)}}).")
  }
  values <- read[-1L]
  if (!numeric) {
    values <- lapply(values, utils::type.convert, as.is = TRUE)
  }
  list(rows = read[[1L]], columns = columns, values = values)
}

# What `scan()` says of a bad cell or row, for a reader who does not know it.
plain_reason <- function(message) {
  message <- sub("^scan\\(\\) expected 'a real', got '(.*)'$", "'\\1' is not a number", message)
  message <- sub("^line (\\d+) did not have", "row \\1 below the header does not have", message)
  sub("elements$", "cells", message)
}

#' A file that can be read twice: what comes through a pipe is kept
#' @noRd
regular_file <- function(path) {
  piped <- path == "-" || (file.exists(path) && !dir.exists(path) && file.size(path) %in% c(0, NA))
  if (!piped) {
    return(path)
  }
  con <- file(if (path == "-") "stdin" else path, "rb", raw = TRUE)
  on.exit(close(con))
  kept <- tempfile("patina-piped-")
  out <- file(kept, "wb")
  on.exit(close(out), add = TRUE, after = FALSE)
  while (length(part <- readBin(con, "raw", 1e6)) > 0L) {
    writeBin(part, out)
  }
  kept
}

#' Counts with genes in rows, of those spots that have coordinates
#' @noRd
read_counts_file <- function(path, spots) {
  values <- if (dir.exists(path)) {
    read_10x_folder(path)
  } else if (grepl("[.]h5$", path, ignore.case = TRUE)) {
    read_10x_h5(path)
  } else {
    read_counts_table(path, spots)
  }
  known <- spots %in% colnames(values)
  if (!any(known)) {
    command_line_error(c(
      "None of the {length(spots)} spot{?s} of the coordinates {?is/are} in {path}:
        {.val {first_few(spots)}}.",
      i = "Names must agree; they are in the first row or column of the table of counts."
    ))
  }
  others <- ncol(values) - sum(known)
  if (others > 0L) {
    say(others, if (others == 1L) " spot of " else " spots of ", path, " without coordinates left out")
  }
  if (!all(known)) {
    without <- sum(!known)
    say(without, if (without == 1L) " spot" else " spots", " of the coordinates without counts left out")
  }
  values[, spots[known], drop = FALSE]
}

read_counts_table <- function(path, spots) {
  table <- read_named_table(path, numeric = TRUE)
  values <- do.call(cbind, table$values)
  dimnames(values) <- list(table$rows, table$columns)
  # a gene may be called like a spot
  in_rows <- sum(spots %in% table$rows)
  in_columns <- sum(spots %in% table$columns)
  if (in_rows == in_columns && in_rows > 0L) {
    command_line_error(c(
      "Both rows and columns of {path} are named like {in_rows} spot{?s} of the coordinates.",
      i = "Name genes and spots differently."
    ))
  }
  if (in_columns > in_rows) values else t(values)
}

#' The folder that Cell Ranger and Space Ranger write
#' @noRd
read_10x_folder <- function(path) {
  find <- function(names) {
    candidates <- file.path(path, c(names, paste0(names, ".gz")))
    found <- candidates[file.exists(candidates)]
    if (length(found) == 0L) {
      command_line_error("The folder {path} has no {names[[1L]]}.")
    }
    found[[1L]]
  }
  values <- Matrix::readMM(gzfile(find("matrix.mtx")))
  features <- utils::read.delim(find(c("features.tsv", "genes.tsv")), header = FALSE)
  barcodes <- readLines(find("barcodes.tsv"))
  rownames(values) <- make.unique(as.character(features[[min(2L, ncol(features))]]))
  colnames(values) <- barcodes
  kept <- if (ncol(features) >= 3L) features[[3L]] == "Gene Expression" else rep(TRUE, nrow(values))
  as_dgc(values[if (any(kept)) kept else TRUE, , drop = FALSE])
}

#' The .h5 file that they write
#' @noRd
read_10x_h5 <- function(path) {
  if (!requireNamespace("rhdf5", quietly = TRUE)) {
    command_line_error("Files of HDF5 need the R package rhdf5: install it first.")
  }
  contents <- h5_contents(path, NULL)
  if (!"/matrix/indptr" %in% contents$path) {
    command_line_error("{path} is no .h5 file of 10x Genomics: it has no group 'matrix'.")
  }
  shape <- h5_vector(path, "matrix/shape")
  start <- h5_vector(path, "matrix/indptr")
  by_spot <- list(path = path, element = "matrix", start = start, size = shape[[1L]])
  values <- h5_columns(by_spot, seq_len(shape[[2L]]))
  features <- h5_vector(path, "matrix/features/name")
  dimnames(values) <- list(make.unique(features), h5_vector(path, "matrix/barcodes"))
  type <- h5_vector(path, "matrix/features/feature_type")
  kept <- type == "Gene Expression"
  values[if (any(kept)) kept else TRUE, , drop = FALSE]
}

read_spots_file <- function(path) {
  table <- read_named_table(path, numeric = FALSE)
  samples <- as.data.frame(stats::setNames(table$values, table$columns), optional = TRUE)
  rownames(samples) <- table$rows
  samples
}

pick_coordinates <- function(samples, columns, path) {
  if (is.null(columns)) {
    columns <- names(samples)[tolower(names(samples)) %in% c("x", "y", "z")]
    if (length(columns) == 0L) {
      command_line_error(
        "{path} has no column x, y or z: name the coordinates' columns with --columns."
      )
    }
  }
  absent <- setdiff(columns, names(samples))
  if (length(absent) > 0L) {
    known <- first_few(names(samples), 10L)
    command_line_error("{path} has no column {.val {absent}}; its columns are {.val {known}}.")
  }
  samples[columns]
}

# Writing -----------------------------------------------------------------------------------------

# All tables are complete, beside where they belong, before the first takes its name.
write_tables <- function(tables) {
  to_stdout <- names(tables) == "-"
  for (table in tables[to_stdout]) {
    write_table(table, stdout(), "-")
  }
  tables <- tables[!to_stdout]
  if (length(tables) == 0L) {
    return(invisible())
  }
  paths <- names(tables)
  drafts <- tempfile("patina-", dirname(paths), fileext = ".part")
  on.exit(unlink(drafts))
  for (i in seq_along(tables)) {
    write_table(tables[[i]], drafts[[i]], paths[[i]])
  }
  moved <- file.rename(drafts, paths)
  if (!all(moved)) {
    command_line_error("Cannot write {paths[!moved]}.")
  }
}

write_table <- function(table, file, path) {
  con <- file
  if (is.character(file)) {
    con <- if (grepl("\\.gz$", path)) gzfile(file, "wt") else file(file, "wt")
    on.exit(close(con))
  }
  table <- as.data.frame(table)
  names(table) <- plain_text(names(table))
  is_text <- !vapply(table, is.numeric, NA)
  table[is_text] <- lapply(table[is_text], \(column) plain_text(as.character(column)))
  utils::write.table(table, con, sep = separator_of(path, ""), row.names = FALSE, quote = which(is_text))
}

#' Text that no spreadsheet takes for a formula
#' @noRd
plain_text <- function(x) {
  sub("^([=+@\t\r-])", "'\\1", x)
}
