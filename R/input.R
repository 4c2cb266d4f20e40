# The only file that knows the classes of input. Everything after it works on a `patina_input`.

#' Bring any supported input into one form
#'
#' Importing the class loads Matrix, and with it the methods for sparse blocks, in every process.
#'
#' @importClassesFrom Matrix dgCMatrix
#' @param x Expression: a data.frame (spots in rows), a matrix, sparse Matrix or DelayedMatrix
#'   (genes in rows), or a SummarizedExperiment and its descendants.
#' @param coords 1 to 3 coordinates for each spot: a data.frame, tibble, matrix or (one coordinate)
#'   vector; for a SummarizedExperiment also the names of columns of its colData. `NULL` if `x`
#'   carries them.
#' @param assay Name or number of the assay of a SummarizedExperiment.
#' @param sample_info One row per spot, for `covariates` and `sample_id`; by default the colData.
#' @param sample_id Which slide each spot belongs to: the name of a column of the sample table or
#'   one value per spot; by default a SpatialExperiment's own.
#' @param call The user's call, for errors.
#' @returns A list of class `patina_input`, an expression (see `read_expression()`) whose spots
#'   have names and places; rows follow the order of the spots in `x`:
#'   - `genes`, `spots`: names, "gene1", "spot1", ... if there are none;
#'   - `coords`: double matrix, spots × 1..3, with column names;
#'   - `samples`: data.frame, a row for each spot;
#'   - `sample_id`: factor, or `NULL` if there is one sample;
#'   - `values`, `storage`, `spots_in_rows`, `n_spots`: the expression and how it is kept.
#' @noRd
as_input <- function(
  x,
  coords = NULL,
  assay = "counts",
  sample_info = NULL,
  sample_id = NULL,
  call = rlang::caller_env()
) {
  expression <- read_expression(x, assay, call)
  spots <- expression$spots
  n_spots <- expression$n_spots

  coords <- coords |> find_coords(expression, call) |> as_coords(call)
  check_shape(coords, expression, call)
  if (length(expression$genes) == 0L) {
    abort_patina("{.arg x} has no genes.", class = "input", call = call)
  }
  coords <- match_spots(coords, spots, call)
  expression$spots <- spots %||% rownames(coords) %||% sprintf("spot%d", seq_len(n_spots))
  expression$coords <- unname_rows(coords)
  expression$samples <- as_samples(sample_info %||% expression$samples, spots, n_spots, call)
  expression$sample_id <- as_sample_id(
    sample_id %||% expression$sample_id,
    expression$samples,
    spots,
    n_spots,
    call
  )
  check_locations(expression, call)

  duplicated <- unique(expression$genes[duplicated(expression$genes)])
  if (length(duplicated) > 0L) {
    warn_patina(
      c(
        "{length(duplicated)} gene name{?s} occur{?s/} more than once:
          {.val {first_few(duplicated)}}.",
        i = "Every row is kept; results are told apart by their order only."
      ),
      class = "duplicated_genes"
    )
  }
  structure(expression, class = "patina_input")
}

# Classes ---------------------------------------------------------------------------------------

#' Read the expression out of any supported class
#'
#' @inheritParams as_input
#' @returns A list:
#'   - `values`: the expression, and `storage`, how it is kept: "columns" (a list of genes), "dense"
#'     (genes × spots), "sparse" (dgCMatrix of spots × genes), "delayed" (genes × spots);
#'   - `spots_in_rows`: whether `x` had them there;
#'   - `genes`: names, "gene1", ... if there are none; `spots`: names or `NULL`; `n_spots`;
#'   - what the class carries: `coords`, `samples`, `sample_id`, `class`, each may be `NULL`.
#' @noRd
read_expression <- function(x, assay = "counts", call = rlang::caller_env()) {
  UseMethod("read_expression")
}

new_expression <- function(values, storage, genes, spots, n_genes, n_spots) {
  list(
    values = values,
    storage = storage,
    spots_in_rows = storage == "columns",
    genes = genes %||% sprintf("gene%d", seq_len(n_genes)),
    named_genes = !is.null(genes),
    spots = spots,
    n_spots = n_spots
  )
}

#' @export
read_expression.data.frame <- function(x, assay = "counts", call = rlang::caller_env()) {
  columns <- as.list(as.data.frame(x))
  check_numeric_columns(columns, call)
  new_expression(
    unname(columns),
    "columns",
    genes = names(x),
    spots = own_row_names(x),
    n_genes = length(x),
    n_spots = nrow(x)
  )
}

#' @export
read_expression.matrix <- function(x, assay = "counts", call = rlang::caller_env()) {
  if (!is.numeric(x)) {
    abort_patina(
      c(
        "{.arg x} must be a matrix of numbers, not of type {.cls {typeof(x)}}.",
        i = "A column of names turns {.fn as.matrix}'s result into text: move the names into the
        row names first."
      ),
      class = "input",
      call = call
    )
  }
  new_expression(unname(x), "dense", rownames(x), colnames(x), nrow(x), ncol(x))
}

#' @export
read_expression.Matrix <- function(x, assay = "counts", call = rlang::caller_env()) {
  if (!methods::is(x, "sparseMatrix") && !methods::is(x, "diagonalMatrix")) {
    return(read_expression(as.matrix(x), call = call))
  }
  # transposed, so that a gene is a column
  values <- Matrix::t(as_dgc(x))
  dimnames(values) <- list(NULL, NULL)
  new_expression(values, "sparse", rownames(x), colnames(x), nrow(x), ncol(x))
}

#' @export
read_expression.DelayedMatrix <- function(x, assay = "counts", call = rlang::caller_env()) {
  rlang::check_installed("DelayedArray", call = call)
  type <- DelayedArray::type(x)
  if (!type %in% c("integer", "double")) {
    abort_patina(
      "{.arg x} must hold numbers, not values of type {.cls {type}}.",
      class = "input",
      call = call
    )
  }
  new_expression(x, "delayed", rownames(x), colnames(x), nrow(x), ncol(x))
}

#' @export
read_expression.SummarizedExperiment <- function(x, assay = "counts", call = rlang::caller_env()) {
  rlang::check_installed("SummarizedExperiment", call = call)
  values <- get_assay(x, assay, call)
  # the names of the experiment, which an assay need not repeat
  dimnames(values) <- dimnames(x)
  expression <- read_expression(values, call = call)
  expression$class <- class(x)[1L]
  expression$samples <- SummarizedExperiment::colData(x) |>
    unname_rows() |>
    as.data.frame(optional = TRUE) |>
    unname_rows()
  if (inherits(x, "SpatialExperiment")) {
    expression$coords <- unname_rows(SpatialExperiment::spatialCoords(x))
    expression$sample_id <- expression$samples[["sample_id"]]
  }
  expression
}

#' @export
read_expression.default <- function(x, assay = "counts", call = rlang::caller_env()) {
  # the sparse arrays of newer Bioconductor releases
  if (methods::is(x, "SparseMatrix")) {
    return(read_expression(methods::as(x, "CsparseMatrix"), call = call))
  }
  abort_patina(
    c(
      "{.arg x} has class {.cls {class(x)}}, which patina does not know.",
      i = "Give a data.frame (spots in rows), or a matrix, sparse Matrix or DelayedMatrix (genes in
        rows), or a SummarizedExperiment, SingleCellExperiment or SpatialExperiment.",
      i = if (inherits(x, "Seurat")) {
        "From a Seurat object take {.code Seurat::GetAssayData()} and
        {.code Seurat::GetTissueCoordinates()}."
      }
    ),
    class = "input",
    call = call
  )
}

# Blocks of genes -------------------------------------------------------------------------------

#' A block of genes, dense
#'
#' @param input A `patina_input` or an expression.
#' @param genes Indices of genes.
#' @returns A double matrix of spots × genes without names.
#' @noRd
input_block <- function(input, genes) {
  block <- switch(
    input$storage,
    columns = vapply(
      input$values[genes],
      as.double,
      numeric(input$n_spots)
    ),
    dense = t(input$values[genes, , drop = FALSE]),
    sparse = as.matrix(input$values[, genes, drop = FALSE]),
    delayed = t(as.matrix(input$values[genes, , drop = FALSE]))
  )
  if (!is.double(block)) {
    storage.mode(block) <- "double"
  }
  dimnames(block) <- NULL
  block
}

#' A block of genes, sparse
#'
#' @inheritParams input_block
#' @returns A dgCMatrix of spots × genes, or `NULL` if the input is not sparse.
#' @noRd
input_sparse_block <- function(input, genes) {
  switch(
    input$storage,
    sparse = input$values[, genes, drop = FALSE],
    delayed = if (DelayedArray::is_sparse(input$values)) {
      Matrix::t(as_dgc(methods::as(
        input$values[genes, , drop = FALSE],
        "dgCMatrix"
      )))
    }
  )
}

#' Cut the genes into blocks that are read one at a time
#'
#' @param input A `patina_input` or an expression.
#' @param max_values How many values a dense block may hold (the default is 16 MB); delayed input
#'   keeps to DelayedArray's own size of blocks, in whole chunks, so that each is read once.
#' @returns A list of index vectors, in order, that cover all genes.
#' @noRd
gene_blocks <- function(input, max_values = 2e6) {
  n_genes <- length(input$genes)
  if (input$storage == "delayed") {
    values <- input$values
    size <- max(1, DelayedArray::getAutoBlockLength(DelayedArray::type(values)) %/% max(ncol(values), 1L))
    height <- DelayedArray::chunkdim(values)[1L] %||% 1L
    # a chunk may hold far more genes than memory does
    if (height <= 4 * size) {
      size <- max(size %/% height, 1) * height
    }
    grid <- DelayedArray::rowAutoGrid(values, nrow = as.integer(min(size, n_genes)))
    ends <- cumsum(DelayedArray::dims(grid)[, 1L])
    return(Map(seq.int, c(1L, utils::head(ends, -1L) + 1L), ends))
  }
  size <- max(1L, as.integer(max_values %/% max(input$n_spots, 1L)))
  starts <- seq.int(1L, n_genes, by = size)
  Map(seq.int, starts, pmin(starts + size - 1L, n_genes))
}

# The parts -------------------------------------------------------------------------------------

#' The coordinates that the user gave, or named, or that the class carries
#' @noRd
find_coords <- function(coords, expression, call) {
  columns <- expression$samples
  if (is.character(coords) && is.null(dim(coords)) && !is.null(columns)) {
    missing <- setdiff(coords, names(columns))
    if (length(missing) > 0L) {
      abort_patina(
        c(
          "{.arg coords} names {.val {first_few(missing)}}, which {.code colData(x)} does not
            have.",
          i = "Its columns are {.val {first_few(names(columns), 10L)}}."
        ),
        class = "coords",
        call = call
      )
    }
    return(unname_rows(columns[coords]))
  }
  if (!is.null(coords)) {
    return(coords)
  }
  carried <- expression$coords
  if (NCOL(carried) > 0L && !is.null(carried)) {
    return(carried)
  }
  abort_patina(
    c(
      if (is.null(carried)) {
        "{.arg coords} is missing."
      } else {
        "{.arg x} has no coordinates: {.code spatialCoords(x)} has no columns."
      },
      i = "Give a table with one row per spot and 1 to 3 columns.",
      i = if (!is.null(columns)) {
        "Or name columns of {.code colData(x)}: {.code coords = c(\"x\", \"y\")}."
      },
      i = if (is.null(carried)) "Only a {.cls SpatialExperiment} carries its own."
    ),
    class = "coords",
    call = call
  )
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

#' Any sparse Matrix as a dgCMatrix
#' @noRd
as_dgc <- function(x) {
  if (inherits(x, "dgCMatrix")) {
    return(x)
  }
  x |>
    methods::as("dMatrix") |>
    methods::as("generalMatrix") |>
    methods::as("CsparseMatrix")
}

get_assay <- function(x, assay, call) {
  available <- SummarizedExperiment::assayNames(x)
  n_assays <- length(SummarizedExperiment::assays(x))
  known <- if (rlang::is_string(assay)) {
    assay %in% available
  } else {
    rlang::is_integerish(assay, n = 1L, finite = TRUE) &&
      assay >= 1 &&
      assay <= n_assays
  }
  if (!known) {
    abort_patina(
      c(
        "{.arg x} has no assay {.val {assay}}.",
        i = if (length(available) > 0L) {
          "Its assays are {.val {first_few(available, 10L)}}: choose one by {.arg assay}."
        } else {
          "Its {n_assays} assay{?s} {?has/have} no names: give {.arg assay} as a number."
        }
      ),
      class = "argument",
      call = call
    )
  }
  SummarizedExperiment::assay(x, assay, withDimnames = FALSE)
}

is_number <- function(column) {
  # the bits of an integer64 are not a double's
  is.numeric(column) && !inherits(column, "integer64") && NCOL(column) == 1L
}

#' "name (class)" of the columns that are not numbers
#' @noRd
not_numbers <- function(columns) {
  bad <- !vapply(columns, is_number, logical(1L))
  classes <- vapply(columns[bad], \(column) class(column)[1L], "")
  list(
    which = unname(which(bad)),
    label = sprintf("%s (%s)", names(columns)[bad], classes)
  )
}

check_numeric_columns <- function(columns, call) {
  bad <- not_numbers(columns)
  if (length(bad$which) == 0L) {
    return(invisible())
  }
  first <- columns[[1L]]
  looks_like_names <- identical(bad$which[1L], 1L) &&
    (is.character(first) || is.factor(first)) &&
    anyDuplicated(first) == 0L
  abort_patina(
    c(
      "{.arg x} has {length(bad$which)} column{?s} that {?is/are} not numeric:
        {.field {first_few(bad$label)}}.",
      i = if (looks_like_names) {
        "The first column looks like names. Move it into the row names:
          {.code x <- data.frame(x[-1], row.names = x[[1]], check.names = FALSE)}."
      } else {
        "Keep one column of numbers for each gene; other facts about the spots belong into
          {.arg sample_info}."
      }
    ),
    class = "input",
    call = call
  )
}

as_coords <- function(coords, call) {
  if (is.null(dim(coords)) && is.atomic(coords)) {
    coords <- data.frame(x = coords, row.names = names_if_unique(coords))
  } else if (methods::is(coords, "DataFrame")) {
    coords <- as.data.frame(coords, optional = TRUE)
  } else if (methods::is(coords, "Matrix")) {
    coords <- as.matrix(coords)
  }
  if (length(dim(coords)) != 2L) {
    abort_patina(
      c(
        "{.arg coords} has class {.cls {class(coords)}}.",
        i = "Give a data.frame or matrix with one row per spot and 1 to 3 numeric columns."
      ),
      class = "coords",
      call = call
    )
  }
  spots <- own_row_names(coords)
  table <- as.list(as.data.frame(coords))
  bad <- not_numbers(table)
  if (length(bad$which) > 0L) {
    abort_patina(
      c(
        "{.arg coords} has {length(bad$which)} column{?s} that {?is/are} not numeric:
          {.field {first_few(bad$label)}}.",
        i = "Keep the coordinates only; names of spots belong into the row names."
      ),
      class = "coords",
      call = call
    )
  }
  if (!length(table) %in% 1:3) {
    abort_patina(
      c(
        "{.arg coords} must have 1, 2 or 3 columns, not {length(table)}.",
        i = if (length(table) > 3L) {
          "Choose the coordinates, for example {.code coords[, c(\"x\", \"y\")]}."
        }
      ),
      class = "coords",
      call = call
    )
  }
  names <- colnames(coords)
  if (is.null(names) || anyNA(names) || any(names == "")) {
    names <- c("x", "y", "z")[seq_along(table)]
  }
  # a table of coordinates and totals makes a tissue with a very long third dimension
  if (length(names) == 3L && grepl("count|total|umi|sum", names[3L], ignore.case = TRUE)) {
    abort_patina(
      c(
        "The third column of {.arg coords}, {.field {names[3]}}, does not look like a coordinate.",
        i = "Take the first two, {.code coords[, c(\"{names[1]}\", \"{names[2]}\")]}; or rename the
          column if it is one."
      ),
      class = "coords",
      call = call
    )
  }
  matrix(
    as.double(unlist(table, use.names = FALSE)),
    ncol = length(table),
    dimnames = list(spots, names)
  )
}

names_if_unique <- function(x) {
  if (is.null(names(x)) || anyDuplicated(names(x))) NULL else names(x)
}

#' Number of spots in `x` and `coords`; tells a transposed `x` from a wrong one
#' @noRd
check_shape <- function(coords, expression, call) {
  n <- nrow(coords)
  n_spots <- expression$n_spots
  n_genes <- length(expression$genes)
  spots_in_rows <- expression$spots_in_rows
  named <- rownames(coords)
  all_named <- !is.null(named) && !is.null(expression$spots) && expression$named_genes
  other_way <- if (all_named) {
    !any(named %in% expression$spots) && mean(named %in% expression$genes) > 0.5
  } else {
    n_spots != n && n_genes == n
  }
  if (other_way) {
    abort_patina(
      c(
        "{.arg x} looks transposed: the {n} rows of {.arg coords} match its
          {if (spots_in_rows) 'columns' else 'rows'}.",
        i = if (spots_in_rows) {
          "A data.frame has spots in rows and genes in columns; a matrix the other way round: use
            {.code as.matrix(x)}."
        } else {
          "A matrix has genes in rows and spots in columns: use {.code t(x)}."
        }
      ),
      class = "transposed",
      call = call
    )
  }
  if (n_spots != n && (is.null(named) || is.null(expression$spots))) {
    abort_patina(
      c(
        "{.arg x} has {n_spots} spot{?s} ({if (spots_in_rows) 'row' else 'column'}{?s}) and
          {.arg coords} has {n} row{?s}.",
        i = "Give one row of coordinates for each spot, in the same order or with the same names."
      ),
      class = "coords",
      call = call
    )
  }
}

#' The rows of a table in the order of the spots: by name if both have names, else as they are
#' @noRd
match_spots <- function(table, spots, call, arg = "coords") {
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
        i = "If {.arg x} and {.arg {arg}} are in the same order: {.code rownames({arg}) <- NULL}."
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
        "The names of the spots in {.arg x} and {.arg {arg}} differ.",
        x = if (length(only_x) > 0L) {
          "{length(only_x)} of {length(spots)} only in {.arg x}: {.val {first_few(only_x)}}."
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

as_samples <- function(sample_info, spots, n_spots, call) {
  if (is.null(sample_info)) {
    return(data.frame(row.names = seq_len(n_spots)))
  }
  if (methods::is(sample_info, "DataFrame")) {
    sample_info <- as.data.frame(sample_info, optional = TRUE)
  }
  if (!is.data.frame(sample_info)) {
    abort_patina(
      "{.arg sample_info} must be a data.frame with one row per spot, not of class
        {.cls {class(sample_info)}}.",
      class = "argument",
      call = call
    )
  }
  named <- own_row_names(sample_info)
  if (nrow(sample_info) != n_spots && (is.null(spots) || is.null(named))) {
    abort_patina(
      "{.arg sample_info} has {nrow(sample_info)} row{?s}, but {.arg x} has {n_spots} spot{?s}.",
      class = "argument",
      call = call
    )
  }
  samples <- sample_info |>
    keep_row_names(named) |>
    match_spots(spots, call, arg = "sample_info")
  unname_rows(samples)
}

# a plain data.frame, without groups, and with row names only if somebody gave them
keep_row_names <- function(table, named) {
  table <- as.data.frame(table)
  rownames(table) <- named
  table
}

as_sample_id <- function(sample_id, samples, spots, n_spots, call) {
  if (is.null(sample_id)) {
    return(NULL)
  }
  if (rlang::is_string(sample_id) && n_spots > 1L) {
    if (!sample_id %in% names(samples)) {
      abort_patina(
        c(
          "{.arg sample_id} names the column {.val {sample_id}}, which the sample table does not
            have.",
          i = if (ncol(samples) > 0L) {
            "Its columns are {.val {first_few(names(samples), 10L)}}."
          } else {
            "Give the table as {.arg sample_info}, or one value per spot."
          }
        ),
        class = "argument",
        call = call
      )
    }
    sample_id <- samples[[sample_id]]
  } else if (!is.atomic(sample_id) || length(sample_id) != n_spots) {
    abort_patina(
      c(
        "{.arg sample_id} must be the name of a column of the sample table or have one value per
          spot.",
        x = "It has {length(sample_id)} value{?s}; {.arg x} has {n_spots} spot{?s}."
      ),
      class = "argument",
      call = call
    )
  } else if (!is.null(names_if_unique(sample_id))) {
    table <- data.frame(id = sample_id, row.names = names(sample_id))
    sample_id <- match_spots(table, spots, call, arg = "sample_id")$id
  }
  if (anyNA(sample_id)) {
    abort_patina(
      "{.arg sample_id} is missing for {sum(is.na(sample_id))} spot{?s}.",
      class = "argument",
      call = call
    )
  }
  sample_id <- factor(unname(sample_id))
  if (nlevels(sample_id) > 1L) sample_id else NULL
}

check_locations <- function(input, call) {
  coords <- input$coords
  spots <- input$spots
  sample_id <- input$sample_id
  bad <- which(!rowSums(is.finite(coords)) == ncol(coords))
  if (length(bad) > 0L) {
    abort_patina(
      c(
        "{.arg coords} is not finite for {length(bad)} spot{?s}: {.val {first_few(spots[bad])}}.",
        i = "Remove these spots from {.arg x} and {.arg coords}."
      ),
      class = "coords",
      call = call
    )
  }
  rows <- split(
    seq_along(spots),
    sample_id %||% factor(rep("all", length(spots)))
  )
  few <- names(rows)[lengths(rows) < 5L]
  if (length(spots) == 0L || length(few) > 0L) {
    message <- if (is.null(sample_id)) {
      "At least 5 spots are needed, and {.arg x} has {length(spots)}."
    } else {
      "At least 5 spots are needed in each sample, and {.val {few[1]}} has {lengths(rows)[few[1]]}."
    }
    abort_patina(message, class = "too_few_spots", call = call)
  }
  is_same <- vapply(
    rows,
    \(i) all(coords[i, ] == rep(coords[i[1L], ], each = length(i))),
    logical(1L)
  )
  same <- names(rows)[is_same]
  if (length(same) > 0L) {
    message <- if (is.null(sample_id)) {
      "All {length(spots)} spots have the same coordinates: at least two must differ."
    } else {
      "All spots of sample {.val {same[1]}} have the same coordinates: at least two must differ."
    }
    abort_patina(message, class = "coords", call = call)
  }
}
