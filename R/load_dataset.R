# Two real tissues, from files.

# Where a file comes from, and the SHA-256 of its content.
dataset_source <- "https://media.githubusercontent.com/media/Teichlab/SpatialDE/master/Analysis"
dataset_files <- list(
  mob = list(
    counts = list(
      name = "Rep11_MOB_0.csv",
      folder = "MouseOB/data",
      sha256 = "df7cb0b838e2a9b9de3424024d084f38cbfc16b20fbd64ed2787a942039b6c3e"
    ),
    sample_info = list(
      name = "MOB_sample_info.csv",
      folder = "MouseOB",
      sha256 = "b1678ba2e04342053efd5d3bc277d98e65280800ff4da0a1a3fc64e74c3214e8"
    )
  ),
  breast_cancer = list(
    counts = list(
      name = "Layer2_BC_count_matrix-1.tsv",
      folder = "BreastCancer/data",
      sha256 = "fe19a57e382bd35009f5552eec4f94254fab9b6834e74ea7525f219cac559ae2"
    )
  )
)

#' Two real tissues
#'
#' The Spatial Transcriptomics sections of \enc{Ståhl}{Stahl} et al. (2016) on which SpatialDE was
#' shown: the mouse olfactory bulb (replicate 11: 260 spots, 16,218 genes) and human breast cancer
#' (layer 2: 251 spots, 14,789 genes).
#'
#' Files are looked for in the folder that the environment variable `PATINA_DATA` names and in the
#' cache (`tools::R_user_dir("patina", "cache")`), plain or compressed with gzip. What is not there is
#' downloaded once, from the repository of SpatialDE's analyses, and kept in the cache (by the package
#' BiocFileCache if it is installed). Every time a file is read its SHA-256 is checked, which needs R 4.5
#' or the package digest.
#'
#' Counts are raw and nothing is filtered, except that spots of the bulb without a row in the sample
#' table are left out. SpatialDE's analyses keep genes with a total of at least 3, then spots with
#' more than 10 (bulb) or 5 (breast cancer) counts:
#'
#' ```r
#' tissue <- load_dataset("mob")
#' counts <- tissue$counts[Matrix::rowSums(tissue$counts) >= 3, ]
#' counts <- counts[, Matrix::colSums(counts) > 10]
#' coords <- tissue$sample_info[colnames(counts), c("x", "y")]
#' ```
#'
#' @param name `"mob"`, the mouse olfactory bulb, or `"breast_cancer"`.
#' @returns A list of class `patina_dataset`:
#'   - `counts`: a dgCMatrix, genes × spots, with names;
#'   - `sample_info`: a data.frame with a row for each spot: `x`, `y` (in units of the array, about
#'     1 between neighbours) and `total_counts` (for the bulb SpatialDE's own: of the genes with a
#'     total of at least 3).
#' @section Errors:
#' `patina_error_download` if a file is neither there nor can be had, or is not what it should be,
#' with the address and the place to put it.
#' @references
#' P. L. \enc{Ståhl}{Stahl} et al. (2016). Visualization and analysis of gene expression in tissue
#' sections by spatial transcriptomics. *Science* 353. \doi{10.1126/science.aaf2403}
#' @seealso [example_tissue()], which needs no files.
#' @export
#' @examples
#' \dontrun{
#' # downloads 9 MB the first time
#' load_dataset("mob")
#' }
load_dataset <- function(name = c("mob", "breast_cancer")) {
  call <- rlang::current_env()
  name <- checked(rlang::arg_match(name))
  lines <- lapply(dataset_files[[name]], dataset_lines, call = call)
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

#' @export
print.patina_dataset <- function(x, ...) {
  cat(
    sprintf(
      "A tissue of %s genes in %s spots\n",
      format(nrow(x$counts), big.mark = ","),
      format(ncol(x$counts), big.mark = ",")
    ),
    "$counts: genes \u00d7 spots, sparse, ",
    sprintf("%.0f%% not zero\n", 100 * Matrix::nnzero(x$counts) / length(x$counts)),
    sprintf("$sample_info: %s\n", paste(names(x$sample_info), collapse = ", ")),
    if (!is.null(x$truth)) sprintf("$truth: %s\n", paste(names(x$truth), collapse = ", ")),
    sep = ""
  )
  invisible(x)
}

new_dataset <- function(counts, sample_info, truth = NULL) {
  parts <- list(counts = counts, sample_info = sample_info)
  parts$truth <- truth
  structure(parts, class = "patina_dataset")
}

# Files -----------------------------------------------------------------------------------------

#' The lines of a file, wherever it is, if it is the right one
#'
#' @param file One of `dataset_files`.
#' @noRd
dataset_lines <- function(file, call, source = dataset_source) {
  cache <- tools::R_user_dir("patina", "cache")
  url <- paste(source, file$folder, file$name, sep = "/")
  path <- find_file(file$name, c(Sys.getenv("PATINA_DATA"), cache)) %||%
    download_file(url, cache, file$name, call)
  # what is checked is what is read, not the file of a moment ago
  content <- read_content(path, call)
  if (!identical(sha256(content, call), file$sha256)) {
    abort_patina(
      c(
        "{.path {path}} is not the file it should be: its SHA-256 differs.",
        i = "Remove it, then it is downloaded again from {.url {url}};",
        i = "or put a copy with SHA-256 {.val {file$sha256}} in its place."
      ),
      class = "download",
      call = call
    )
  }
  strsplit(rawToChar(content), "\r?\n")[[1L]]
}

#' The first of some folders that has a file, plain or compressed; `NULL` if none has
#' @noRd
find_file <- function(name, folders) {
  paths <- file.path(rep(folders[nzchar(folders)], each = 2L), paste0(name, c("", ".gz")))
  found <- paths[file.exists(paths)]
  if (length(found) > 0L) found[[1L]]
}

#' Download a file into a folder
#'
#' BiocFileCache does it where it is installed. Either way the file has its own name at the end, and is found
#' by that the next time.
#' @noRd
download_file <- function(url, folder, name, call, cached = rlang::is_installed("BiocFileCache")) {
  path <- file.path(folder, name)
  dir.create(folder, recursive = TRUE, showWarnings = FALSE)
  old <- options(timeout = max(300, getOption("timeout")))
  on.exit(options(old))
  inform_patina("Downloading {.url {url}} to {.path {path}}.")
  download <- if (cached) download_to_cache else download_to_folder
  # a failure may be a warning, with the reason, before it is an error
  reason <- NULL
  tryCatch(
    withCallingHandlers(
      download(url, folder, name),
      warning = function(cnd) {
        reason <<- reason %||% conditionMessage(cnd)
        rlang::cnd_muffle(cnd)
      }
    ),
    error = function(cnd) {
      reason <- reason %||% conditionMessage(cnd)
      abort_patina(
        c(
          "{.file {name}} is not on this machine and cannot be downloaded.",
          x = "{reason}",
          i = "Download {.url {url}} to {.path {path}};",
          i = "or name the folder that has it by {.code Sys.setenv(PATINA_DATA = )}."
        ),
        class = "download",
        call = call
      )
    }
  )
  path
}

download_to_cache <- function(url, folder, name) {
  cache <- BiocFileCache::BiocFileCache(folder, ask = FALSE)
  # of a file that was removed since
  known <- BiocFileCache::bfcquery(cache, name, "rname", exact = TRUE)$rid
  if (length(known) > 0L) {
    BiocFileCache::bfcremove(cache, known)
  }
  BiocFileCache::bfcadd(cache, name, fpath = url, rtype = "web", fname = "exact")
}

download_to_folder <- function(url, folder, name) {
  part <- tempfile(tmpdir = folder, fileext = ".part")
  on.exit(unlink(part))
  status <- utils::download.file(url, part, mode = "wb", quiet = TRUE)
  if (status != 0L || !file.rename(part, file.path(folder, name))) {
    stop("the download did not succeed")
  }
}

#' What is in a file, compressed or not
#' @noRd
read_content <- function(path, call) {
  damaged <- function(cnd) {
    abort_patina(
      c(
        "{.path {path}} cannot be read.",
        x = "{conditionMessage(cnd)}",
        i = "Remove it, then it is downloaded again."
      ),
      class = "download",
      call = call
    )
  }
  tryCatch(
    {
      con <- gzfile(path, "rb")
      on.exit(close(con))
      parts <- list()
      while (length(part <- readBin(con, "raw", 1e7)) > 0L) {
        parts <- c(parts, list(part))
      }
      do.call(c, c(list(raw()), parts))
    },
    error = damaged,
    warning = damaged
  )
}

sha256 <- function(content, call) {
  if (exists("sha256sum", asNamespace("tools"))) {
    return(unname(getExportedValue("tools", "sha256sum")(bytes = content)))
  }
  if (!rlang::is_installed("digest")) {
    abort_patina(
      c(
        "Data are checked by their SHA-256, which needs R 4.5 or the package {.pkg digest}.",
        i = "Install it: {.code install.packages(\"digest\")}."
      ),
      class = "download",
      call = call
    )
  }
  digest::digest(content, algo = "sha256", serialize = FALSE)
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
