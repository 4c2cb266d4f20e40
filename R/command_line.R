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
      write_tables(analyse_files(options))
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
    usage = "%prog [options] COUNTS COORDINATES RESULTS",
    description = paste(
      "Finds genes whose expression depends on position in the tissue.",
      "COUNTS is a table of numbers with names in its first row and first column: spots in",
      "rows and genes in columns, or the other way round (the names of the spots tell which).",
      "COORDINATES has a row for each spot to be used: its name, then its coordinates and",
      "whatever else is known of it. RESULTS is written: a row for each gene.",
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
          "+ : * ^ - log exp sqrt poly splines::ns factor I [~ log(total_counts)]"
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
        help = "of the test's kernels: auto, exact, pivoted_cholesky or krylov [%default]"
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
  files <- parsed$args
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
  if (anyDuplicated(true_paths(c(outputs, options$counts, options$coordinates)))) {
    command_line_error("Every file to be written needs a name of its own, which is no input's.")
  }
  for (path in outputs) {
    check_writable(path)
  }
  options
}

output_paths <- function(options) {
  unlist(options[c("results", "models", "patterns", "pattern_values")])
}

# "4", "2:8" or "1,2,4" as numbers.
parse_numbers <- function(text, option) {
  if (is.null(text)) {
    return(NULL)
  }
  numbers <- suppressWarnings(as.numeric(strsplit(text, "[:,]")[[1L]]))
  if (grepl(":", text, fixed = TRUE) && length(numbers) == 2L && !anyNA(numbers)) {
    numbers <- seq(numbers[[1L]], numbers[[2L]])
  }
  if (length(numbers) == 0L || anyNA(numbers)) {
    command_line_error("{option} must be a number, a range a:b or a list a,b,c, not '{text}'.")
  }
  numbers
}

# Analysis ----------------------------------------------------------------------------------------

# The tables to write: a list of data frames named by their paths.
analyse_files <- function(options) {
  samples <- read_spots_file(options$coordinates)
  coords <- pick_coordinates(samples, options$columns, options$coordinates)
  check_formula_columns(options$covariates, names(samples), options$coordinates)
  counts <- read_counts_file(options$counts, rownames(samples))
  prepared <- list(
    counts,
    coords,
    sample_info = samples,
    normalization = options$normalization,
    threads = options$threads
  )
  prepared$covariates <- options$covariates
  prepared$sample_id <- options$sample

  how <- options[c("pval_method", "approximation")]
  results <- do.call(spatial_test, c(prepared, how))
  hits <- results[which(results$qval < options$fdr), ]
  say(nrow(results), " genes tested, ", nrow(hits), " at a q-value below ", options$fdr)
  tables <- stats::setNames(list(results), options$results)

  if (nrow(hits) == 0L && length(output_paths(options)) > 1L) {
    say("no such gene, so only ", options$results, " is written")
    return(tables)
  }
  if (!is.null(options$models)) {
    tables[[options$models]] <- do.call(model_search, c(prepared, list(genes = hits)))
  }
  if (!is.null(options$patterns)) {
    settings <- Filter(Negate(is.null), options[c("n_patterns", "lengthscale")])
    patterns <- do.call(spatial_patterns, c(prepared, list(genes = hits$gene), settings))
    tables[[options$patterns]] <- patterns$genes
    if (!is.null(options$pattern_values)) {
      tables[[options$pattern_values]] <- patterns$patterns
    }
  }
  tables
}
