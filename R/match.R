# What belongs together by its name: spots, genes, new locations, the rows of a result.

#' The rows of a table in the order of the spots: by name if both have names, else as they are
#' @noRd
match_spots <- function(table, spots, call, arg = "coords", x_arg = "x") {
  named <- own_row_names(table)
  if (is.null(spots) || is.null(named) || identical(named, spots)) {
    return(table)
  }
  repeated <- unique(c(spots[duplicated(spots)], named[duplicated(named)]))
  if (length(repeated) > 0L) {
    abort_patina(
      c(
        "Spots cannot be matched by name, because some names occur more than once:
          {.val {first_few(repeated)}}.",
        i = "If {.arg {x_arg}} and {.arg {arg}} are in the same order: {.code rownames({arg}) <- NULL}."
      ),
      class = "names",
      call = call
    )
  }
  only_x <- setdiff(spots, named)
  only_table <- setdiff(named, spots)
  if (length(only_x) + length(only_table) > 0L) {
    abort_patina(
      c(
        "The names of the spots in {.arg {x_arg}} and {.arg {arg}} differ.",
        x = if (length(only_x) > 0L) {
          "{length(only_x)} of {length(spots)} only in {.arg {x_arg}}: {.val {first_few(only_x)}}."
        },
        x = if (length(only_table) > 0L) {
          "{length(only_table)} of {length(named)} only in {.arg {arg}}:
            {.val {first_few(only_table)}}."
        },
        i = "Keep the spots that both have.",
        i = if (length(named) == length(spots)) {
          "If both are in the same order, drop one side's names: {.code rownames({arg}) <- NULL}."
        }
      ),
      class = "names",
      call = call
    )
  }
  table[match(spots, named), , drop = FALSE]
}

#' Row names that somebody gave: those of a data.frame are often just its row numbers
#' @noRd
own_row_names <- function(x) {
  if (is.data.frame(x) && .row_names_info(x) <= 0L) NULL else rownames(x)
}

unname_rows <- function(x) {
  rownames(x) <- NULL
  x
}

names_if_unique <- function(x) {
  if (is.null(names(x)) || anyDuplicated(names(x))) NULL else names(x)
}

#' Results given where coordinates are expected, as in `model_search(spe, hits)`, are genes
#' @returns A list of `coords` and `genes`.
#' @noRd
results_for_coords <- function(coords, genes, call) {
  is_result <- is.data.frame(coords) && (is.character(coords[["gene"]]) || is.factor(coords[["gene"]]))
  if (!is_result) {
    return(list(coords = coords, genes = genes))
  }
  if (!is.null(genes)) {
    abort_patina(
      c(
        "{.arg coords} is a table of results: it has a column {.field gene}.",
        i = "Give it as {.arg genes}, and the places of the spots as {.arg coords}."
      ),
      class = "coords",
      call = call
    )
  }
  list(coords = NULL, genes = coords)
}

#' The value of an argument that was given by its former name
#' @noRd
renamed_argument <- function(old, new, old_name, new_name, call) {
  if (!is.null(new)) {
    abort_patina(
      "Give {.arg {new_name}} or its former name {.arg {old_name}}, not both.",
      class = "argument",
      call = call
    )
  }
  inform_patina(
    "{.arg {old_name}} is called {.arg {new_name}} now; the former name still works.",
    .frequency = "once",
    .frequency_id = paste0("patina_", old_name)
  )
  old
}

#' Which genes of the input are meant
#'
#' @param genes Names, or a table of results: its hits if it has all genes of the input, else all of it.
#' @param arg The user's name for `genes`.
#' @returns A list: `genes` (names), `index` (their columns), `results` (the rows of the test, or
#'   NULL). A name that several genes have stands for all of them, unless the table has the genes in order.
#' @noRd
choose_genes <- function(genes, input, arg, call) {
  results <- NULL
  index <- NULL
  if (is.data.frame(genes)) {
    results <- genes
    results$gene <- gene_names(results, arg, call)
    check_columns(results, "gene", arg, call, numeric = c("qval", "lengthscale"))
    if (nrow(results) == 0L) {
      abort_patina(
        c("{.arg {arg}} is a table of results without a row.", i = "Give the names of genes to have some."),
        class = "argument",
        call = call
      )
    }
    own <- seq_along(input$genes)
    if (identical(results$gene[own], input$genes) && !any(results$gene[-own] %in% input$genes)) {
      index <- seq_len(nrow(results))
    } else {
      # tables that were bound together: each gene counts once
      results <- results[!duplicated(results$gene), ]
    }
    if (all(input$genes %in% results$gene) && !is.null(results[["qval"]])) {
      hits <- which(results$qval < 0.05)
      results <- results[hits, ]
      index <- index[hits]
      if (nrow(results) == 0L) {
        abort_patina(
          c(
            "No gene has {.field qval} below 0.05, so none is taken.",
            i = "Give the names of genes by {.arg {arg}} to take them all the same."
          ),
          class = "data",
          call = call
        )
      }
      inform_patina("Taking the {nrow(results)} gene{?s} with {.field qval} below 0.05.")
    }
    # A tested pseudo-gene is not in `x`.
    absent <- setdiff(results$gene, input$genes)
    if (length(absent) > 0L && length(absent) < nrow(results)) {
      inform_patina("Not in {.arg x}, so left out: {.val {first_few(absent)}}.")
      known <- results$gene %in% input$genes
      results <- results[known, ]
      index <- index[known]
    }
    genes <- results$gene
  }
  found <- match_genes(genes, input$genes, arg, call)
  if (is.null(index)) {
    index <- found
    results <- results[match(input$genes[index], results$gene), ]
  }
  list(genes = input$genes[index], index = index, results = results)
}

#' The names of genes in a table of results
#' @noRd
gene_names <- function(table, arg, call) {
  names <- table[["gene"]]
  if (is.factor(names)) {
    names <- as.character(names)
  }
  if (!is.character(names)) {
    abort_patina(
      c(
        "{.arg {arg}} is a table without a column {.field gene} of names.",
        i = "Give a result of {.fn spatial_test}, or the names themselves."
      ),
      class = "argument",
      call = call
    )
  }
  names
}

#' Positions in `known` of genes: each name once, with all that have it
#' @noRd
match_genes <- function(genes, known, arg, call) {
  if (is.factor(genes)) {
    genes <- as.character(genes)
  }
  if (!is.character(genes) || length(genes) == 0L || anyNA(setdiff(genes, known))) {
    abort_patina(
      c(
        "{.arg {arg}} must be names of genes, or a table of results with at least one row.",
        x = if (anyNA(genes)) {
          "{sum(is.na(genes))} of its {length(genes)} elements {cli::qty(sum(is.na(genes)))}{?is/are} NA."
        } else {
          "It is {.obj_type_friendly {genes}} of length {length(genes)}."
        }
      ),
      class = "argument",
      call = call
    )
  }
  genes <- unique(genes)
  absent <- setdiff(genes, known)
  if (length(absent) > 0L) {
    abort_patina(
      c(
        "{length(absent)} of {.arg {arg}} {cli::qty(length(absent))}{?is/are} not in {.arg x}:
          {.val {first_few(absent)}}.",
        i = "Genes of {.arg x} are named like {.val {first_few(known, 3L)}}."
      ),
      class = "names",
      call = call
    )
  }
  found <- which(known %in% genes)
  found[order(match(known[found], genes))]
}

#' For each name of the object, its position in the result's names, or NA
#' @noRd
match_names <- function(names, known, what, call) {
  if (identical(names, known)) {
    return(seq_along(known))
  }
  absent <- setdiff(names, known)
  if (length(names) > 0L && length(absent) == length(unique(names))) {
    abort_patina(
      c(
        "No {what} of {.arg results} is in {.arg spe}.",
        x = "{.arg results} has {.val {first_few(names, 3L)}}.",
        x = "{.arg spe} has {.val {first_few(known, 3L)}}.",
        i = "Was it made from another object, or have names changed since?"
      ),
      class = "names",
      call = call
    )
  }
  if (length(absent) > 0L) {
    warn_patina(
      c(
        "{length(absent)} {what}{cli::qty(length(absent))}{?s} of {.arg results}
          {cli::qty(length(absent))}{?is/are} not in {.arg spe}.",
        i = "Left out: {.val {first_few(absent)}}."
      ),
      class = paste0("unknown_", what, "s")
    )
  }
  ambiguous <- unique(c(names[duplicated(names)], known[duplicated(known)]))
  ambiguous <- intersect(intersect(ambiguous, names), known)
  if (length(ambiguous) > 0L) {
    warn_patina(
      c(
        "{length(ambiguous)} name{?s} of {what}s {cli::qty(length(ambiguous))}occur{?s/} more than once.",
        x = "Not matched, so {.val {NA}}: {.val {first_few(ambiguous)}}.",
        i = "Make names unique, or give the result for all {what}s in order."
      ),
      class = paste0("duplicated_", what, "s")
    )
  }
  names[names %in% ambiguous] <- NA
  match(known, names)
}

#' New locations as a matrix with the columns of the fit
#' @noRd
match_new_coords <- function(newcoords, names, call) {
  own <- free_names(colnames(newcoords))
  there <- names %in% own
  if (all(there)) {
    newcoords <- newcoords[, match(names, own), drop = FALSE]
  } else if (any(there) || !all(is_numbered(own))) {
    # by position they might be exchanged
    abort_patina(
      c(
        "{.arg newcoords} has no {cli::qty(sum(!there))}column{?s} {.field {names[!there]}}.",
        x = "Its columns are {.field {first_few(colnames(newcoords))}}."
      ),
      class = "coords",
      call = call
    )
  }
  new <- as_coords(newcoords, call, arg = "newcoords")
  if (ncol(new) != length(names)) {
    abort_patina(
      c(
        "{.arg newcoords} has {ncol(new)} column{?s}, and the spots have {length(names)}
          coordinate{?s}.",
        i = "Give the columns {.field {names}}."
      ),
      class = "coords",
      call = call
    )
  }
  bad <- which(rowSums(!is.finite(new)) > 0)
  if (length(bad) > 0L) {
    abort_patina(
      "{.arg newcoords} has values that are not finite in {length(bad)} row{?s}: {first_few(bad)}.",
      class = "coords",
      call = call
    )
  }
  dimnames(new) <- list(NULL, names)
  new
}

#' Names of columns that nobody gave
#' @noRd
is_numbered <- function(names) grepl("^(V|X|Var|[.]+)?[0-9]+$", names)

#' The samples of new locations, as numbers
#' @noRd
match_new_samples <- function(sample_id, samples, n, call, arg = "sample_id") {
  if (is.null(samples)) {
    return(rep(1L, n))
  }
  named <- is.null(sample_id) || is.atomic(sample_id)
  sample <- if (named) match(as.character(sample_id), samples) else NA
  if (length(sample) != n || anyNA(sample)) {
    abort_patina(
      c(
        "{.arg {arg}} must name the sample of each of the {n} new location{?s}.",
        i = "The samples are {.val {samples}}."
      ),
      class = "argument",
      call = call
    )
  }
  sample
}
