# The files of load_dataset(): where they come from, fetched once, checked whenever they are read.

# Where a file comes from, and the SHA-256 of its content, uncompressed.
github <- function(repository, commit, folder) {
  paste("https://raw.githubusercontent.com", repository, commit, folder, sep = "/")
}
spatialde <- "https://media.githubusercontent.com/media/Teichlab/SpatialDE/master/Analysis"
spark <- github("xzhoulab/SPARK-Analysis", "c073902587b7b81e203265197ddc77e63d204241", "processed_data")
gpcounts <- github("ManchesterBioinference/GPcounts", "c18b8086ddbc2f7915cdf9c96b5342003853e01e", "data")
dataset_files <- list(
  mob = list(
    counts = list(
      name = "Rep11_MOB_0.csv",
      source = paste0(spatialde, "/MouseOB/data"),
      sha256 = "df7cb0b838e2a9b9de3424024d084f38cbfc16b20fbd64ed2787a942039b6c3e"
    ),
    sample_info = list(
      name = "MOB_sample_info.csv",
      source = paste0(spatialde, "/MouseOB"),
      sha256 = "b1678ba2e04342053efd5d3bc277d98e65280800ff4da0a1a3fc64e74c3214e8"
    )
  ),
  breast_cancer = list(
    counts = list(
      name = "Layer2_BC_count_matrix-1.tsv",
      source = paste0(spatialde, "/BreastCancer/data"),
      sha256 = "fe19a57e382bd35009f5552eec4f94254fab9b6834e74ea7525f219cac559ae2"
    )
  ),
  seqfish = list(
    counts = list(
      name = "seqFISH_field43_countdata.csv",
      source = spark,
      sha256 = "ce33a5ffae306a006e5c61e850e15d8cab4c418a1429871fcbe28ae7e6915f16"
    ),
    sample_info = list(
      name = "seqFISH_field43_info.csv",
      source = spark,
      sha256 = "b18367a9196ff329a8bd5807f53f565e55aeb45044ce5926d668acbbf633c799"
    )
  ),
  merfish = list(
    cells = list(
      name = "merfish_mousePOA.rda",
      source = github("JEFworks-Lab/SEraster", "effadf51fbaf7883b1d3ae10046ac830cdefefa9", "data"),
      sha256 = "0bb181ef707584c2aa653f09c26733529731b04d39590c8449b16b86f76c6aa0"
    )
  ),
  fission = list(
    expression = list(
      name = "fission_normalized_counts.csv",
      source = gpcounts,
      sha256 = "4941685c7b1cebe39911c29834136593aaa958f49a82ce386c7d66a03c888a8d"
    ),
    sample_info = list(
      name = "fission_col_data.csv",
      source = gpcounts,
      sha256 = "92c2c8bd0855961a98ab58833617ac6ebad7748fd1f491ad99eb8c835571926a"
    )
  ),
  mob8 = list(
    spots = list(
      name = "mOB.rda",
      # what the file is called where several sets lie together
      also = "stance_mOB.rda",
      source = github("Cui-STT-Lab/STANCE", "f7a80200b89c7cd89b19a5b91aafc022bbdf97f3", "data"),
      sha256 = "477889a3acefa3285169eabd84357cfab70eb944047ebb2297c79a52d15c17b8"
    )
  )
)

#' The content of a file, wherever it is, if it is the right one
#'
#' @param file One of `dataset_files`.
#' @returns A raw vector, uncompressed.
#' @noRd
dataset_content <- function(file, call) {
  cache <- tools::R_user_dir("patina", "cache")
  url <- paste(file$source, file$name, sep = "/")
  path <- find_file(c(file$name, file$also), c(Sys.getenv("PATINA_DATA"), cache)) %||%
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
  content
}

dataset_lines <- function(file, call) {
  strsplit(rawToChar(dataset_content(file, call)), "\r?\n")[[1L]]
}

#' The one object in a file that save() made
#' @noRd
dataset_object <- function(file, call) {
  con <- rawConnection(dataset_content(file, call))
  on.exit(close(con))
  inside <- new.env(parent = emptyenv())
  load(con, inside)
  get(ls(inside), inside)
}

#' The first of some folders that has a file, plain or compressed; `NULL` if none has
#' @noRd
find_file <- function(names, folders) {
  names <- c(names, paste0(names, ".gz"))
  folders <- folders[nzchar(folders)]
  paths <- file.path(rep(folders, each = length(names)), rep(names, length(folders)))
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
