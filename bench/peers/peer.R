# patina, or another R package, on one data set: Rscript peer.R METHOD FOLDER OUT (see peer.py)

arguments <- commandArgs(trailingOnly = TRUE)
method <- arguments[[1L]]
folder <- arguments[[2L]]
out <- arguments[[3L]]

packages <- c(patina = "patina", "patina, anscombe" = "patina", "SPARK-X" = "SPARK", nnSVG = "nnSVG")
package <- packages[[method]]
if (!requireNamespace(package, quietly = TRUE)) {
  cat("skipped: R has no package", package, "\n")
  quit(status = 3L)
}

counts <- methods::as(Matrix::readMM(file.path(folder, "counts.mtx")), "CsparseMatrix")
coords <- as.matrix(read.csv(file.path(folder, "coords.csv")))
genes <- readLines(file.path(folder, "genes.txt"))
dimnames(counts) <- list(genes, sprintf("s%d", seq_len(ncol(counts))))
rownames(coords) <- colnames(counts)

test_patina <- function(...) {
  quietly <- function(expr) suppressWarnings(suppressMessages(expr))
  quietly(patina::spatial_test(counts, coords, threads = 1, progress = FALSE, ...))$pval
}

run <- list(
  patina = function() test_patina(),
  "patina, anscombe" = function() test_patina(normalization = "anscombe"),
  "SPARK-X" = function() {
    result <- SPARK::sparkx(counts, coords, numCores = 1, option = "mixture", verbose = FALSE)
    result$res_mtest[genes, "combinedPval"]
  },
  nnSVG = function() {
    spe <- SpatialExperiment::SpatialExperiment(list(counts = counts), spatialCoords = coords)
    kept <- Matrix::rowSums(counts >= 3) >= 0.005 * ncol(counts)
    tested <- nnSVG::nnSVG(scuttle::logNormCounts(spe[kept, ]), n_threads = 1)
    SummarizedExperiment::rowData(tested)[genes, "pval"]
  }
)

time <- system.time(pval <- run[[method]]())
line <- grep("^VmHWM", readLines("/proc/self/status"), value = TRUE)
write.csv(data.frame(gene = genes, pval = pval), paste0(out, ".csv"), row.names = FALSE)
cat(
  sprintf(
    '{"version": "%s", "cpu": %.3f, "memory": %.1f}\n',
    utils::packageVersion(package),
    sum(time[c("user.self", "sys.self", "user.child", "sys.child")]),
    as.numeric(gsub("\\D", "", line)) / 1024
  ),
  file = paste0(out, ".json")
)
