# The only file that knows the classes of input, with input_h5ad.R and input_seurat.R for what lies behind
# those two. Everything after it works on a `patina_input`.

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
#' @param from The user's `layer`, `image` or `fov`, see `source_options()`.
#' @param progress Whether bars show how far reading is.
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
  from = list(),
  call = rlang::caller_env(),
  progress = FALSE
) {
  if (length(from) > 0L && !inherits(x, "Seurat") && !is.character(x)) {
    abort_patina(
      "{.arg {names(from)}} {?is/are} for Seurat objects and AnnData files; {.arg x} is
        {.obj_type_friendly {x}}.",
      class = "argument",
      call = call
    )
  }
  expression <- rlang::inject(
    read_expression(x, assay, call = call, !!!from, carried = is.null(coords), progress = progress)
  )
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

#' What `...` says of how `x` is read; anything else there is an error
#' @returns A list with `layer`, `image` or `fov`, if they were given.
#' @noRd
source_options <- function(..., call = rlang::caller_env()) {
  given <- rlang::list2(...)
  known <- c("layer", "image", "fov")
  unknown <- setdiff(rlang::names2(given), known)
  if (length(unknown) > 0L) {
    unnamed <- sum(!nzchar(rlang::names2(given)))
    unknown <- unknown[nzchar(unknown)]
    abort_patina(
      c(
        if (length(unknown) > 0L) {
          "There is no argument {.arg {unknown}}."
        } else {
          "There {?is/are} {unnamed} argument{?s} too many without a name."
        },
        i = "{.arg ...} takes {.arg {known}} only; all other arguments need their names in full."
      ),
      class = "argument",
      call = call
    )
  }
  for (name in names(given)) {
    if (!is.null(given[[name]]) && !is.character(given[[name]])) {
      abort_patina("{.arg {name}} must be a name.", class = "argument", call = call)
    }
  }
  given[lengths(given) > 0L]
}

# Classes ---------------------------------------------------------------------------------------

#' Read the expression out of any supported class
#'
#' @inheritParams as_input
#' @param arg The user's name for `x`.
#' @param ... For some classes `layer`, `image` and `fov`, whether the `carried` places of spots are wanted,
#'   and whether a `progress` bar is.
#' @returns A list:
#'   - `values`: the expression, and `storage`, how it is kept: "columns" (a list of genes), "dense"
#'     (genes × spots), "sparse" (dgCMatrix of spots × genes), "delayed" (genes × spots), "by_spot" (see
#'     `by_gene()`), "h5_columns" (see `h5_columns()`);
#'   - `spots_in_rows`: whether `x` had them there;
#'   - `genes`: names, "gene1", ... if there are none; `spots`: names or `NULL`; `n_spots`;
#'   - what the class carries: `coords`, `samples`, `sample_id`, `class`, and `places`, a list of matrices
#'     that `coords` may name; each may be `NULL`.
#' @noRd
read_expression <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
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
read_expression.data.frame <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
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
read_expression.matrix <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
  if (is.logical(x)) {
    storage.mode(x) <- "integer"
  }
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
read_expression.Matrix <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
  if (!methods::is(x, "sparseMatrix") && !methods::is(x, "diagonalMatrix")) {
    return(read_expression(as.matrix(x), arg = arg, call = call))
  }
  stored <- matrix_by_gene(as_dgc(x))
  new_expression(stored$values, stored$storage, rownames(x), colnames(x), nrow(x), ncol(x))
}

#' @export
read_expression.DelayedMatrix <- function(
  x,
  assay = "counts",
  arg = "x",
  call = rlang::caller_env(),
  ...,
  progress = FALSE
) {
  checked(rlang::check_installed("DelayedArray", call = call))
  type <- read_stored(DelayedArray::type(x), call, arg)
  if (!type %in% c("integer", "double")) {
    abort_patina(
      "{.arg {arg}} must hold numbers, not values of type {.cls {type}}.",
      class = "input",
      call = call
    )
  }
  stored <- list(values = x, storage = "delayed")
  if (delayed_by_spot(x)) {
    read <- \(spots) read_stored(as_dgc(methods::as(x[, spots, drop = FALSE], "dgCMatrix")), call, arg)
    stored <- file_by_gene(read, nrow(x), ncol(x), progress = progress)
  }
  new_expression(stored$values, stored$storage, rownames(x), colnames(x), nrow(x), ncol(x))
}

#' @export
read_expression.patina_dataset <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
  expression <- read_expression(x$counts %||% x$expression, arg = arg, call = call)
  expression$coords <- unname_rows(x$sample_info[attr(x, "coords")])
  expression$samples <- unname_rows(x$sample_info)
  expression
}

#' @export
read_expression.SummarizedExperiment <- function(
  x,
  assay = "counts",
  arg = "x",
  call = rlang::caller_env(),
  ...
) {
  checked(rlang::check_installed("SummarizedExperiment", call = call))
  values <- get_assay(x, assay, arg, call)
  # the names of the experiment, which an assay need not repeat
  dimnames(values) <- dimnames(x)
  expression <- read_expression(values, arg = arg, call = call, ...)
  expression$class <- class(x)[1L]
  expression$samples <- SummarizedExperiment::colData(x) |>
    unname_rows() |>
    as.data.frame(optional = TRUE) |>
    unname_rows()
  if (inherits(x, "SingleCellExperiment")) {
    expression$places <- as.list(SingleCellExperiment::reducedDims(x))
  }
  if (inherits(x, "SpatialFeatureExperiment")) {
    inform_patina(
      "Polygons of {.arg {arg}} are not used: each spot or cell is where {.code spatialCoords()} says.",
      .frequency = "once",
      .frequency_id = "patina_polygons"
    )
  }
  if (inherits(x, "SpatialExperiment")) {
    expression$coords <- unname_rows(SpatialExperiment::spatialCoords(x))
    expression$sample_id <- expression$samples[["sample_id"]]
  }
  expression
}

#' @export
read_expression.Seurat <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
  read_seurat(x, assay, arg, call, ...)
}

#' @export
read_expression.character <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
  read_h5ad(x, assay, arg, call, ...)
}

#' @export
read_expression.default <- function(x, assay = "counts", arg = "x", call = rlang::caller_env(), ...) {
  # the sparse arrays of newer Bioconductor releases
  if (methods::is(x, "SparseMatrix")) {
    return(read_expression(methods::as(x, "CsparseMatrix"), arg = arg, call = call))
  }
  abort_patina(
    c(
      "{.arg {arg}} has class {.cls {class(x)}}, which patina does not know.",
      i = "Give a data.frame (spots in rows), or a matrix, sparse Matrix or DelayedMatrix (genes in
        rows), or a SummarizedExperiment, SingleCellExperiment, SpatialExperiment or Seurat object, or the
        path of an {.file .h5ad} file."
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
  of_genes <- looks_like_names &&
    grepl("gene|symbol|feature|ensembl|probe", names(columns)[1L], ignore.case = TRUE)
  named <- if (of_genes) "genes" else "spots"
  # a data.table's columns are not had by [-1]
  code <- sprintf("data.frame(as.data.frame(%s)[-1], row.names = %s[[1]], check.names = FALSE)", arg, arg)
  if (of_genes) {
    # genes are in the rows of a matrix, but in the columns of a data.frame
    code <- sprintf("as.matrix(%s)", code)
  }
  code <- paste(arg, "<-", code)
  abort_patina(
    c(
      "{.arg {arg}} has {length(bad$which)} column{?s} that {?is/are} not numeric:
        {.field {first_few(bad$label)}}.",
      i = if (looks_like_names) {
        "The first column looks like names of {named}. Move it into the row names:
          {.code {code}}."
      } else {
        "Keep one column of numbers for each gene; other facts about the spots belong into
          {.arg sample_info}."
      }
    ),
    class = "input",
    call = call
  )
}

#' Some of the spots
#' @param kept Their positions, rising.
#' @noRd
keep_spots <- function(input, kept) {
  values <- input$values
  input$values <- switch(
    input$storage,
    columns = lapply(values, `[`, kept),
    dense = values[, kept, drop = FALSE],
    sparse = values[kept, , drop = FALSE],
    by_spot = {
      read <- values$read
      values$read <- \(genes) read(genes)[kept, , drop = FALSE]
      values$kept <- new.env()
      values
    },
    h5_columns = replace(values, "spots", list(kept)),
    delayed = values[, kept, drop = FALSE]
  )
  input$n_spots <- length(kept)
  input$spots <- input$spots[kept]
  input$coords <- input$coords[kept, , drop = FALSE]
  input$samples <- input$samples[kept, , drop = FALSE]
  if (!is.null(input$sample_id)) {
    input$sample_id <- input$sample_id[kept]
  }
  input
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
    sparse = as.matrix(sparse_columns(input$values, genes)),
    by_spot = as.matrix(genes_by_spot(input$values, genes)),
    h5_columns = as.matrix(read_stored(h5_columns(input$values, genes), call)),
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
    sparse = sparse_columns(input$values, genes),
    by_spot = genes_by_spot(input$values, genes),
    h5_columns = read_stored(h5_columns(input$values, genes), call),
    delayed = if (DelayedArray::is_sparse(input$values)) {
      read_stored(Matrix::t(as_dgc(methods::as(input$values[genes, , drop = FALSE], "dgCMatrix"))), call)
    }
  )
}

#' A block of genes as it is stored: a dgCMatrix of spots × genes, or a matrix where nothing is sparse
#' @inheritParams input_block
#' @noRd
input_stored_block <- function(input, genes, call = NULL) {
  input_sparse_block(input, genes, call) %||% input_block(input, genes, call)
}

#' Columns of a dgCMatrix, without a look at the others, which `[` checks each time
#'
#' @returns A dgCMatrix without row names.
#' @noRd
sparse_columns <- function(values, columns) {
  starts <- values@p[columns]
  sizes <- values@p[columns + 1L] - starts
  own <- sequence(sizes, from = starts + 1L)
  block <- methods::new("dgCMatrix")
  block@Dim <- c(nrow(values), length(columns))
  block@Dimnames <- list(NULL, colnames(values)[columns])
  block@p <- c(0L, cumsum(sizes))
  block@i <- values@i[own]
  block@x <- values@x[own]
  block
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
#' @param most How many genes a block may have, unless a chunk has more.
#' @param call The user's call, for errors.
#' @returns A list of index vectors, in order, that cover all genes.
#' @noRd
gene_blocks <- function(input, max_values = 2e6, call = NULL, most = Inf) {
  n_genes <- length(input$genes)
  if (input$storage == "delayed") {
    values <- input$values
    type <- read_stored(DelayedArray::type(values), call)
    size <- max(1, DelayedArray::getAutoBlockLength(type) %/% max(ncol(values), 1L))
    height <- DelayedArray::chunkdim(values)[1L] %||% 1L
    size <- min(size, max(most, height))
    # a chunk may hold far more genes than memory does
    if (height <= 4 * size) {
      size <- max(size %/% height, 1) * height
    }
    grid <- DelayedArray::rowAutoGrid(values, nrow = as.integer(min(size, n_genes)))
    ends <- cumsum(DelayedArray::dims(grid)[, 1L])
    return(Map(seq.int, c(1L, utils::head(ends, -1L) + 1L), ends))
  }
  size <- max(1L, as.integer(min(max_values %/% max(input$n_spots, 1L), most)))
  starts <- seq.int(1L, n_genes, by = size)
  Map(seq.int, starts, pmin(starts + size - 1L, n_genes))
}

#' The same for work on sparse blocks: what is in memory is cut by the values that are not zero
#'
#' @param max_entries How many of them a block may have, unless one gene has more (the default is 60 MB); each
#'   gene counts as a few more, for what is computed of it in patches of spots.
#' @noRd
sparse_blocks <- function(input, call = NULL, max_entries = 5e6) {
  if (!input$storage %in% c("sparse", "by_spot")) {
    return(gene_blocks(input, call = call))
  }
  entries <- if (input$storage == "sparse") diff(input$values@p) else input$values$entries
  unname(split(seq_along(entries), cumsum(entries + input$n_spots / 16) %/% max_entries))
}
