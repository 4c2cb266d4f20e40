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
  expression <- read_expression(x, assay, call = call)
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
#' @param arg The user's name for `x`.
#' @returns A list:
#'   - `values`: the expression, and `storage`, how it is kept: "columns" (a list of genes), "dense"
#'     (genes × spots), "sparse" (dgCMatrix of spots × genes), "delayed" (genes × spots);
#'   - `spots_in_rows`: whether `x` had them there;
#'   - `genes`: names, "gene1", ... if there are none; `spots`: names or `NULL`; `n_spots`;
#'   - what the class carries: `coords`, `samples`, `sample_id`, `class`, each may be `NULL`.
#' @noRd
read_expression <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
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
read_expression.data.frame <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
  columns <- as.list(as.data.frame(x))
  check_numeric_columns(columns, arg, call)
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
read_expression.matrix <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
  if (!is.numeric(x)) {
    abort_patina(
      c(
        "{.arg {arg}} must be a matrix of numbers, not of type {.cls {typeof(x)}}.",
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
read_expression.Matrix <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
  if (!methods::is(x, "sparseMatrix") && !methods::is(x, "diagonalMatrix")) {
    return(read_expression(as.matrix(x), arg = arg, call = call))
  }
  # transposed, so that a gene is a column
  values <- Matrix::t(as_dgc(x))
  dimnames(values) <- list(NULL, NULL)
  new_expression(values, "sparse", rownames(x), colnames(x), nrow(x), ncol(x))
}

#' @export
read_expression.DelayedMatrix <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
  checked(rlang::check_installed("DelayedArray", call = call))
  type <- read_stored(DelayedArray::type(x), call, arg)
  if (!type %in% c("integer", "double")) {
    abort_patina(
      "{.arg {arg}} must hold numbers, not values of type {.cls {type}}.",
      class = "input",
      call = call
    )
  }
  new_expression(x, "delayed", rownames(x), colnames(x), nrow(x), ncol(x))
}

#' @export
read_expression.patina_dataset <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
  expression <- read_expression(x$counts %||% x$expression, arg = arg, call = call)
  expression$coords <- unname_rows(x$sample_info[attr(x, "coords")])
  expression$samples <- unname_rows(x$sample_info)
  expression
}

#' @export
read_expression.SummarizedExperiment <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
  checked(rlang::check_installed("SummarizedExperiment", call = call))
  values <- get_assay(x, assay, arg, call)
  # the names of the experiment, which an assay need not repeat
  dimnames(values) <- dimnames(x)
  expression <- read_expression(values, arg = arg, call = call)
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
read_expression.default <- function(x, assay = "counts", arg = "x", call = rlang::caller_env()) {
  # the sparse arrays of newer Bioconductor releases
  if (methods::is(x, "SparseMatrix")) {
    return(read_expression(methods::as(x, "CsparseMatrix"), arg = arg, call = call))
  }
  abort_patina(
    c(
      "{.arg {arg}} has class {.cls {class(x)}}, which patina does not know.",
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

#' An assay by its name or number
#' @noRd
get_assay <- function(x, assay, arg, call) {
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
        "{.arg {arg}} has no assay {.val {assay}}.",
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

#' Check that the columns of a data.frame are genes
#' @noRd
check_numeric_columns <- function(columns, arg, call) {
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
      "{.arg {arg}} has {length(bad$which)} column{?s} that {?is/are} not numeric:
        {.field {first_few(bad$label)}}.",
      i = if (looks_like_names) {
        "The first column looks like names. Move it into the row names:
          {.code {arg} <- data.frame({arg}[-1], row.names = {arg}[[1]], check.names = FALSE)}."
      } else {
        "Keep one column of numbers for each gene; other facts about the spots belong into
          {.arg sample_info}."
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
#' @param call The user's call, for errors.
#' @returns A double matrix of spots × genes without names.
#' @noRd
input_block <- function(input, genes, call = NULL) {
  block <- switch(
    input$storage,
    columns = vapply(
      input$values[genes],
      as.double,
      numeric(input$n_spots)
    ),
    dense = t(input$values[genes, , drop = FALSE]),
    sparse = as.matrix(input$values[, genes, drop = FALSE]),
    delayed = read_stored(t(as.matrix(input$values[genes, , drop = FALSE])), call)
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
input_sparse_block <- function(input, genes, call = NULL) {
  switch(
    input$storage,
    sparse = input$values[, genes, drop = FALSE],
    delayed = if (DelayedArray::is_sparse(input$values)) {
      read_stored(Matrix::t(as_dgc(methods::as(input$values[genes, , drop = FALSE], "dgCMatrix"))), call)
    }
  )
}

#' What is read from a DelayedMatrix, or a classed error
#' @noRd
read_stored <- function(values, call, arg = "x") {
  tryCatch(values, error = function(cnd) {
    abort_patina(
      c(
        "Values of {.arg {arg}} cannot be read.",
        x = "{conditionMessage(cnd)}",
        i = "If they are in a file: is it whole, and still where it was?"
      ),
      class = "reading",
      call = call
    )
  })
}

#' Cut the genes into blocks that are read one at a time
#'
#' @param input A `patina_input` or an expression.
#' @param max_values How many values a dense block may hold (the default is 16 MB); delayed input
#'   keeps to DelayedArray's own size of blocks, in whole chunks, so that each is read once.
#' @param call The user's call, for errors.
#' @returns A list of index vectors, in order, that cover all genes.
#' @noRd
gene_blocks <- function(input, max_values = 2e6, call = NULL) {
  n_genes <- length(input$genes)
  if (input$storage == "delayed") {
    values <- input$values
    type <- read_stored(DelayedArray::type(values), call)
    size <- max(1, DelayedArray::getAutoBlockLength(type) %/% max(ncol(values), 1L))
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
