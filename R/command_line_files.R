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
  if (!file.exists(path) || dir.exists(path)) {
    command_line_error("Cannot read {path}: there is no such file.")
  }
  unreadable <- function(cnd) {
    reason <- plain_reason(conditionMessage(cnd))
    command_line_error("Cannot read {path}: {reason}.")
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
        stop("it has only one column; are the cells separated by commas or tabs?")
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
    command_line_error("Cannot read {path}: row names occur twice ({.val {first_few(repeated)}}).")
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

read_counts_file <- function(path, spots) {
  table <- read_named_table(path, numeric = TRUE)
  values <- do.call(cbind, table$values)
  dimnames(values) <- list(table$rows, table$columns)
  if (!any(spots %in% table$rows) && any(spots %in% table$columns)) {
    values <- t(values)
  }
  absent <- setdiff(spots, rownames(values))
  if (length(absent) > 0L) {
    command_line_error(c(
      "{length(absent)} spot{?s} of the coordinates are not in {path}: {.val {first_few(absent)}}.",
      i = "Names must agree; they are in the first row or column of the table of counts."
    ))
  }
  others <- nrow(values) - length(spots)
  if (others > 0L) {
    say(others, " spots of ", path, " have no coordinates and are left out")
  }
  # Genes in rows, which is how matrices of counts are given.
  t(values[spots, , drop = FALSE])
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
  con <- if (grepl("\\.gz$", path)) gzfile(file, "wt") else file(file, "wt")
  on.exit(close(con))
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
