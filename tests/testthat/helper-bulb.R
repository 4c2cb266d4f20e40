# The olfactory bulb, prepared as SpatialDE's own scripts do.

bulb <- local({
  known <- NULL
  function() {
    if (is.null(known)) {
      withr::local_envvar(PATINA_DATA = dirname(data_path("Rep11_MOB_0.csv.gz")))
      mob <- load_dataset("mob")
      counts <- mob$counts[Matrix::rowSums(mob$counts) >= 3, ]
      info <- mob$sample_info
      info$total_counts <- Matrix::colSums(counts)
      residuals <- regress_out(stabilize(counts), info, ~ log(total_counts))
      known <<- list(
        counts = counts,
        info = info,
        # SpatialDE's README takes the totals of the sample table
        readme_info = mob$sample_info,
        coords = info[c("x", "y")],
        residuals = rbind(residuals, log_total_count = log(info$total_counts))
      )
    }
    known
  }
})

# A small tissue of normal values: half of the genes follow a smooth function.
small_tissue <- function(n = 40, genes = 6, dims = 2) {
  withr::with_seed(1, {
    coords <- as.data.frame(matrix(stats::runif(n * dims, 0, 5), n))
    names(coords) <- c("x", "y", "z")[seq_len(dims)]
    rownames(coords) <- paste0("s", seq_len(n))
    y <- matrix(stats::rnorm(n * genes), genes, n)
    smooth <- seq_len(genes) %% 2 == 0
    y[smooth, ] <- y[smooth, ] + 3 * rep(sin(coords[[1]]), each = sum(smooth))
    dimnames(y) <- list(paste0("g", seq_len(genes)), rownames(coords))
    list(y = y, coords = coords)
  })
}
