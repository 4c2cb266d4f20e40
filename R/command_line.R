# The command line, for people who do not write R: `exec/patina` calls `run_command_line()`.

#' Run the command line
#'
#' @param args The words after the program's name.
#' @return The exit status: 0, or 2 after an error that the user can mend, told in one line on
#'   stderr, or 1 after any other. Result files appear complete or not at all.
#' @noRd
run_command_line <- function(args) {
  tryCatch(
    {
      options <- parse_command_line(args)
      if (options$help) {
        return(0L)
      }
      write_results(analyse_files(options), options)
      0L
    },
    patina_error = function(cnd) report_failure(cnd, 2L),
    error = function(cnd) report_failure(cnd, 1L)
  )
}

report_failure <- function(cnd, status) {
  # An error's header and its hints, without the marks that stand before them.
  text <- paste(c(cnd$message, cnd$body), collapse = " ")
  say(gsub("[[:space:]]+", " ", cli::ansi_strip(text)))
  status
}

say <- function(...) {
  cat("patina: ", ..., "\n", sep = "", file = stderr())
}

command_line_error <- function(message, env = rlang::caller_env()) {
  abort_patina(message, class = "command_line", call = NULL, env = env)
}

# Arguments ---------------------------------------------------------------------------------------

command_line_parser <- function() {
  option <- optparse::make_option
  optparse::OptionParser(
    prog = "patina",
    usage = "%prog [options] COUNTS COORDINATES RESULTS\n       patina [options] TISSUE.h5ad RESULTS",
    description = paste(
      "Finds genes whose expression depends on position in the tissue.",
      "COUNTS is a table of numbers with names in its first row and first column: spots in",
      "rows and genes in columns, or the other way round (the names of the spots tell which).",
      "Or a folder (matrix.mtx, barcodes, features) or .h5 file of 10x Genomics; - is the standard input.",
      "COORDINATES has a row for each spot to be used: its name, then its coordinates and",
      "whatever else is known of it. RESULTS is written: a row for each gene; - is the standard output.",
      "An AnnData file (.h5ad) has its own coordinates; if RESULTS is one, it is a copy with results in var.",
      "Files may be comma or tab separated (.csv, .tsv, .txt) and compressed (.gz). In those that are",
      "written a name that begins with = + - or @ has an apostrophe in front, so that no spreadsheet",
      "takes it for a formula and runs it.",
      sep = "\n"
    ),
    option_list = list(
      option(
        "--columns",
        metavar = "X,Y",
        help = "coordinates' columns in COORDINATES [those named x, y and z]"
      ),
      option(
        "--normalization",
        default = "pearson",
        metavar = "HOW",
        help = "pearson or anscombe, for counts, or none [%default]"
      ),
      option(
        "--covariates",
        metavar = "FORMULA",
        help = paste(
          "what to regress out: a formula over COORDINATES' columns, with",
          "+ : * ^ - log exp sqrt poly splines::ns factor I [none: depth is taken out beside]"
        )
      ),
      option(
        "--sample",
        metavar = "COLUMN",
        help = "column of COORDINATES that says which sample (slide) a spot belongs to"
      ),
      option(
        "--pval-method",
        dest = "pval_method",
        default = "calibrated",
        metavar = "HOW",
        help = "calibrated, or spatialde for SpatialDE's own p-values [%default]"
      ),
      option(
        "--approximation",
        default = "auto",
        metavar = "HOW",
        help = "of the test's kernels: auto, exact, pivoted_cholesky, krylov or grid [%default]"
      ),
      option(
        "--fdr",
        type = "double",
        default = 0.05,
        metavar = "RATE",
        help = "genes with a smaller q-value go into --models and --patterns [%default]"
      ),
      option(
        "--models",
        metavar = "FILE",
        help = "also write the best kind of spatial function for each such gene"
      ),
      option(
        "--patterns",
        metavar = "FILE",
        help = "also group such genes into tissue patterns and write each gene's"
      ),
      option(
        "--pattern-values",
        dest = "pattern_values",
        metavar = "FILE",
        help = "with --patterns: write the patterns' values at each spot"
      ),
      option(
        "--n-patterns",
        dest = "n_patterns",
        metavar = "N",
        help = "number of patterns, or a range such as 2:8 to choose from"
      ),
      option(
        "--lengthscale",
        metavar = "L",
        help = "the patterns' lengthscale, or several (1,2,4) to choose from"
      ),
      option(
        "--report",
        metavar = "FILE",
        help = "also write a report, one HTML page with tables and pictures"
      ),
      option("--layer", metavar = "NAME", help = "layer of an AnnData file [counts if there is one, else X]"),
      option("--version", action = "store_true", default = FALSE, help = "say which version this is"),
      option("--threads", type = "integer", metavar = "N", help = "threads to use [all cores]")
    )
  )
}

parse_command_line <- function(args) {
  if (!requireNamespace("optparse", quietly = TRUE)) {
    command_line_error("The command line needs the R package optparse: install it first.")
  }
  parser <- command_line_parser()
  parsed <- tryCatch(
    optparse::parse_args(
      parser,
      args,
      positional_arguments = TRUE,
      print_help_and_exit = FALSE,
      convert_hyphens_to_underscores = TRUE
    ),
    error = function(cnd) {
      message <- sub("See --help.*", "", conditionMessage(cnd))
      command_line_error(c("{message}", i = "'patina --help' lists the options."))
    }
  )
  options <- parsed$options
  if (options$help) {
    optparse::print_help(parser)
    options$help <- TRUE
    return(options)
  }
  if (options$version) {
    cat("patina ", format(utils::packageVersion("patina")), "\n", sep = "")
    options$help <- TRUE
    return(options)
  }
  check_option_numbers(options)
  files <- parsed$args
  if (length(files) == 2L && is_h5ad(files[[1L]])) {
    files <- c(files[[1L]], NA, files[[2L]])
  }
  if (length(files) != 3L) {
    command_line_error(c(
      "Three files are needed, COUNTS COORDINATES RESULTS, not {length(files)}.",
      i = "'patina --help' says more."
    ))
  }
  options[c("counts", "coordinates", "results")] <- files
  if (!is.null(options$pattern_values) && is.null(options$patterns)) {
    command_line_error("--pattern-values needs --patterns.")
  }
  options$n_patterns <- parse_numbers(options$n_patterns, "--n-patterns")
  options$lengthscale <- parse_numbers(options$lengthscale, "--lengthscale")
  options$columns <- if (!is.null(options$columns)) strsplit(options$columns, ",")[[1L]]
  options$covariates <- parse_formula(options$covariates)
  outputs <- output_paths(options)
  files <- stats::na.omit(c(outputs, options$counts, options$coordinates))
  if (anyDuplicated(true_paths(files[files != "-"]))) {
    command_line_error("Every file to be written needs a name of its own, which is no input's.")
  }
  for (path in outputs[outputs != "-"]) {
    check_writable(path)
  }
  options
}

output_paths <- function(options) {
  unlist(options[c("results", "models", "patterns", "pattern_values", "report")])
}

# What is no number is NA to optparse, with a warning.
check_option_numbers <- function(options) {
  if (!isTRUE(options$fdr > 0 && options$fdr < 1)) {
    command_line_error("--fdr must be a number between 0 and 1, such as 0.05.")
  }
  if (!is.null(options$threads) && !isTRUE(options$threads >= 1)) {
    command_line_error("--threads must be a whole number of at least 1.")
  }
}

is_h5ad <- function(path) {
  grepl("[.]h5ad$", path, ignore.case = TRUE)
}

# "4", "2:8" or "1,2,4" as numbers.
parse_numbers <- function(text, option) {
  if (is.null(text)) {
    return(NULL)
  }
  # strsplit() takes no end after the last mark
  numbers <- suppressWarnings(as.numeric(strsplit(paste0(text, " "), "[:,]")[[1L]]))
  good <- length(numbers) > 0L && all(is.finite(numbers))
  if (good && grepl(":", text, fixed = TRUE)) {
    good <- length(numbers) == 2L && !grepl(",", text, fixed = TRUE)
    numbers <- if (good) as.double(seq(numbers[[1L]], numbers[[2L]]))
  }
  if (!good || any(numbers <= 0)) {
    command_line_error("{option} must be a number, a range a:b or a list a,b,c, above 0, not '{text}'.")
  }
  numbers
}

# Analysis ----------------------------------------------------------------------------------------

# What there is to write: `tables`, a list of data frames named by their paths, and what a report needs.
analyse_files <- function(options) {
  prepared <- command_line_input(options)
  how <- options[c("pval_method", "approximation")]
  results <- do.call(spatial_test, c(prepared, how))
  hits <- results[which(results$qval < options$fdr), ]
  say(sum(!is.na(results$pval)), " genes tested, ", nrow(hits), " at a q-value below ", options$fdr)
  done <- list(
    tables = stats::setNames(list(results), options$results),
    results = results,
    prepared = prepared
  )

  wants_hits <- !is.null(options$models) || !is.null(options$patterns)
  if (nrow(hits) == 0L && wants_hits) {
    # those of an earlier run would be taken for this one's
    unlink(unlist(options[c("models", "patterns", "pattern_values")]))
    say("no such gene, so neither models nor patterns are written; files of an earlier run are removed")
    return(done)
  }
  if (!is.null(options$models)) {
    done$models <- do.call(model_search, c(prepared, list(genes = hits)))
    done$tables[[options$models]] <- done$models
  }
  if (!is.null(options$patterns)) {
    settings <- Filter(Negate(is.null), options[c("n_patterns", "lengthscale")])
    done$patterns <- do.call(spatial_patterns, c(prepared, list(genes = hits$gene), settings))
    done$tables[[options$patterns]] <- done$patterns$genes
    if (!is.null(options$pattern_values)) {
      done$tables[[options$pattern_values]] <- done$patterns$patterns
    }
  }
  done
}

# The arguments that all verbs share.
command_line_input <- function(options) {
  prepared <- list(normalization = options$normalization, threads = options$threads)
  if (is_h5ad(options$counts)) {
    if (!is.na(options$coordinates)) {
      command_line_error("An AnnData file has its own coordinates: give it and RESULTS only.")
    }
    prepared <- c(list(options$counts), prepared)
    prepared$coords <- options$columns
    prepared$layer <- options$layer
  } else {
    samples <- read_spots_file(options$coordinates)
    check_formula_columns(options$covariates, names(samples), options$coordinates)
    coords <- pick_coordinates(samples, options$columns, options$coordinates)
    counts <- read_counts_file(options$counts, rownames(samples))
    kept <- colnames(counts)
    coords <- coords[kept, , drop = FALSE]
    samples <- samples[kept, , drop = FALSE]
    prepared <- c(list(counts, coords, sample_info = samples), prepared)
  }
  prepared$covariates <- options$covariates
  prepared$sample_id <- options$sample
  prepared
}

write_results <- function(done, options) {
  tables <- done$tables
  into_file <- is_h5ad(options$counts) && is_h5ad(options$results)
  if (into_file) {
    tables <- tables[-1L]
  }
  if (length(tables) > 0L) {
    write_tables(tables)
  }
  if (into_file) {
    add_results(options$counts, done$results, file = options$results, overwrite = TRUE)
  }
  if (!is.null(options$report)) {
    shown <- done$prepared
    shown$threads <- NULL
    unnamed <- !nzchar(names(shown))
    names(shown)[unnamed] <- c("x", "coords")[seq_len(sum(unnamed))]
    given <- list(
      results = done$results,
      patterns = done$patterns,
      models = done$models,
      file = options$report
    )
    do.call(patina_report, c(given, shown))
  }
}
