# Real data, from files.

#' Real data
#'
#' The data of SpatialDE's case studies, or others of the same kind where those cannot be had, and two that
#' know the types of cells:
#'
#' - `"mob"`: mouse olfactory bulb, replicate 11, Spatial Transcriptomics (\enc{Ståhl}{Stahl} et al. 2016):
#'   16,218 genes, 260 spots;
#' - `"breast_cancer"`: human breast cancer, layer 2, of the same study: 14,789 genes, 251 spots;
#' - `"mob8"`: mouse olfactory bulb, replicate 8, of the same study, with the proportions of 12 types of cells
#'   from the package STANCE: 7,365 genes, 260 spots;
#' - `"seqfish"`: mouse hippocampus, field 43, seqFISH (Shah et al. 2016): 249 genes, 131 cells;
#' - `"merfish"`: mouse preoptic area, one slice, MERFISH, with types of cells (Moffitt et al. 2018): 155
#'   genes, 6,509 cells;
#' - `"fission"`: fission yeast under osmotic stress, two strains over time, bulk RNA-seq (Leong et al. 2014):
#'   6,459 genes, 36 samples.
#'
#' Files are looked for in the folder that the environment variable `PATINA_DATA` names and in the cache
#' (`tools::R_user_dir("patina", "cache")`), plain or compressed with gzip. What is not there is downloaded
#' once, from public repositories on GitHub (SpatialDE's own for the first two, else SPARK-Analysis, SEraster,
#' GPcounts and STANCE, each at a fixed commit), and kept in the cache (by the package BiocFileCache if it is
#' installed). Every time a file is read its SHA-256 is checked, which needs R 4.5 or the package digest.
#' `"merfish"` needs the package SpatialExperiment, whose class its file holds.
#'
#' Nothing is filtered, except that spots of the bulb without a row in the sample table are left out.
#' SpatialDE's analyses keep genes with a total of at least 3, then spots with more than 10 (bulb) or 5
#' (breast cancer) counts:
#'
#' ```r
#' tissue <- load_dataset("mob")
#' counts <- tissue$counts[Matrix::rowSums(tissue$counts) >= 3, ]
#' counts <- counts[, Matrix::colSums(counts) > 10]
#' coords <- tissue$sample_info[colnames(counts), c("x", "y")]
#' ```
#'
#' @param name Which one.
#' @returns A list of class `patina_dataset`, which can be given as `x` to all functions without
#'   coordinates:
#'   - `counts`: genes × spots, with names, a dgCMatrix; or `expression` where they are no counts any more:
#'     transcripts divided by the cell's volume (`"merfish"`), counts normalised for depth (`"fission"`, a
#'     matrix). Take logarithms, and test with `normalization = "none"`;
#'   - `sample_info`: a data.frame with a row for each spot: `x` and `y` (`"fission"`: `minute`), which are
#'     its coordinates; `total_counts` (for `"mob"` SpatialDE's own: of the genes with a total of at least
#'     3); and what else is known: `z` (`"seqfish"`), `celltype`, `neurontype` (`"merfish"`), `strain`,
#'     `replicate` (`"fission"`), `type1` to `type12` (`"mob8"`). Coordinates are in units of the array, about
#'     1 between neighbours; `"seqfish"`: pixels; `"merfish"`: micrometres.
#' @section Errors:
#' `patina_error_download` if a file is neither there nor can be had, or is not what it should be,
#' with the address and the place to put it.
#' @references
#' P. L. \enc{Ståhl}{Stahl} et al. (2016). Visualization and analysis of gene expression in tissue
#' sections by spatial transcriptomics. *Science* 353. \doi{10.1126/science.aaf2403}
#'
#' S. Shah, E. Lubeck, W. Zhou, L. Cai (2016). In situ transcription profiling of single cells reveals spatial
#' organization of cells in the mouse hippocampus. *Neuron* 92. \doi{10.1016/j.neuron.2016.10.001}
#'
#' J. R. Moffitt et al. (2018). Molecular, spatial, and functional single-cell profiling of the hypothalamic
#' preoptic region. *Science* 362. \doi{10.1126/science.aau5324}
#'
#' H. S. Leong et al. (2014). A global non-coding RNA system modulates fission yeast protein levels in
#' response to stress. *Nature Communications* 5. \doi{10.1038/ncomms4947}
#' @seealso [example_tissue()], which needs no files.
#' @export
#' @examples
#' \dontrun{
#' # downloads 9 MB the first time
#' bulb <- load_dataset("mob")
#' spatial_test(bulb)
#' }
load_dataset <- function(name = c("mob", "breast_cancer", "mob8", "seqfish", "merfish", "fission")) {
  call <- rlang::current_env()
  name <- checked(rlang::arg_match(name))
  files <- dataset_files[[name]]
  switch(
    name,
    mob = ,
    breast_cancer = read_spots_in_rows(files, call),
    seqfish = read_seqfish(files, call),
    merfish = read_merfish(files, call),
    fission = read_fission(files, call),
    mob8 = read_mob8(files, call)
  )
}

read_spots_in_rows <- function(files, call) {
  lines <- lapply(files, dataset_lines, call = call)
  counts <- read_counts(lines$counts)
  sample_info <- if (is.null(lines$sample_info)) {
    places <- strsplit(colnames(counts), "x", fixed = TRUE)
    data.frame(
      x = as.double(vapply(places, `[`, "", 1L)),
      y = as.double(vapply(places, `[`, "", 2L)),
      total_counts = Matrix::colSums(counts),
      row.names = colnames(counts)
    )
  } else {
    utils::read.csv(text = lines$sample_info, row.names = 1L)
  }
  new_dataset(counts[, rownames(sample_info)], sample_info)
}

read_seqfish <- function(files, call) {
  # names are in quotes within quotes
  counts <- read_counts(gsub("[\"']", "", dataset_lines(files$counts, call)))
  sample_info <- utils::read.csv(text = dataset_lines(files$sample_info, call), row.names = 1L)
  sample_info$total_counts <- Matrix::colSums(counts)
  new_dataset(counts, sample_info, spots = "cells")
}

read_merfish <- function(files, call) {
  checked(rlang::check_installed("SpatialExperiment", "to read this data set.", call = call))
  cells <- dataset_object(files$cells, call)
  sample_info <- as.data.frame(SummarizedExperiment::colData(cells))[c("celltype", "neurontype")]
  sample_info <- data.frame(SpatialExperiment::spatialCoords(cells), sample_info)
  expression <- SummarizedExperiment::assay(cells, "volnorm")
  new_dataset(NULL, sample_info, expression = expression, spots = "cells")
}

read_fission <- function(files, call) {
  expression <- as.matrix(utils::read.csv(
    text = dataset_lines(files$expression, call),
    row.names = 1L,
    check.names = FALSE
  ))
  sample_info <- utils::read.csv(text = dataset_lines(files$sample_info, call), row.names = 1L)
  sample_info <- sample_info[colnames(expression), c("minute", "strain", "replicate")]
  new_dataset(NULL, sample_info, expression = expression, coords = "minute", spots = "samples")
}

read_mob8 <- function(files, call) {
  bulb <- dataset_object(files$spots, call)
  counts <- as_dgc(Matrix::Matrix(bulb$counts, sparse = TRUE, doDiag = FALSE))
  colnames(bulb$prop) <- paste0("type", colnames(bulb$prop))
  sample_info <- data.frame(bulb$pos, total_counts = Matrix::colSums(counts), bulb$prop)
  new_dataset(counts, sample_info)
}

#' @export
print.patina_dataset <- function(x, ...) {
  values <- x$counts %||% x$expression
  cat(
    sprintf(
      "%s of %s genes in %s %s\n",
      if (identical(attr(x, "coords"), c("x", "y"))) "A tissue" else "A time course",
      count_text(nrow(values)),
      count_text(ncol(values)),
      attr(x, "spots")
    ),
    if (is.null(x$counts)) "$expression: genes " else "$counts: genes ",
    times_sign(),
    sprintf(" %s, ", attr(x, "spots")),
    if (methods::is(values, "sparseMatrix")) "sparse" else "dense",
    sprintf(", %.0f%% not zero\n", 100 * Matrix::nnzero(values) / length(values)),
    paste(
      strwrap(
        sprintf("$sample_info: %s", paste(names(x$sample_info), collapse = ", ")),
        cli::console_width(),
        exdent = 2L
      ),
      collapse = "\n"
    ),
    "\n",
    if (!is.null(x$truth)) sprintf("$truth: %s\n", paste(names(x$truth), collapse = ", ")),
    sep = ""
  )
  invisible(x)
}

#' A data set as users get it
#'
#' @param counts,expression One of them, the other is `NULL`.
#' @param coords Which columns of `sample_info` are the coordinates.
#' @param spots What a column is called.
#' @noRd
new_dataset <- function(
  counts,
  sample_info,
  truth = NULL,
  expression = NULL,
  coords = c("x", "y"),
  spots = "spots"
) {
  parts <- list(counts = counts, expression = expression, sample_info = sample_info, truth = truth)
  structure(parts[lengths(parts) > 0L], coords = coords, spots = spots, class = "patina_dataset")
}

#' A table of counts with spots in rows, as a dgCMatrix of genes × spots
#'
#' Line by line, so that the dense table never exists.
#' @noRd
read_counts <- function(lines) {
  separator <- if (grepl("\t", lines[[1L]], fixed = TRUE)) "\t" else ","
  genes <- strsplit(lines[[1L]], separator, fixed = TRUE)[[1L]][-1L]
  spots <- sub(paste0(separator, ".*"), "", lines[-1L])
  counts <- lapply(lines[-1L], \(line) {
    values <- as.integer(strsplit(line, separator, fixed = TRUE)[[1L]][-1L])
    at <- which(values != 0L)
    list(at = at, values = values[at])
  })
  at <- lapply(counts, `[[`, "at")
  Matrix::sparseMatrix(
    i = unlist(at),
    p = c(0L, cumsum(lengths(at))),
    x = as.double(unlist(lapply(counts, `[[`, "values"))),
    dims = c(length(genes), length(spots)),
    dimnames = list(genes, spots)
  )
}
