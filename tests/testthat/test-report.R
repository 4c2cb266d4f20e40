skip_if_not_installed("rmarkdown")
if (rmarkdown::pandoc_available("1.12.3")) {
  test_that("a report is one page with everything in it, which a browser shows", {
    tissue <- example_tissue(100, 24)
    results <- spatial_test(tissue, threads = 1)
    models <- model_search(tissue, genes = results, threads = 1) |> suppressMessages()
    patterns <- spatial_patterns(tissue, genes = results, n_patterns = 3, lengthscale = 3, threads = 1) |>
      suppressMessages()
    file <- withr::local_tempfile(fileext = ".html")
    done <- withVisible(patina_report(
      results,
      patterns,
      models,
      tissue,
      file = file,
      title = "A <b>tissue</b>",
      n_genes = 4
    ))
    expect_identical(done, list(value = file, visible = FALSE))
    page <- paste(readLines(file, warn = FALSE), collapse = "\n")
    # nothing is fetched: no script, style or picture from elsewhere
    expect_no_match(page, "(src|href)=\"(https?:)?//")
    expect_no_match(page, "(src|href)=\"[^\"#]*[.](png|css|js)\"")
    for (text in c(
      "What was done",
      "24 genes tested",
      "First genes in the tissue",
      "Kinds of functions",
      "Versions"
    )) {
      expect_match(page, text, fixed = TRUE)
    }
    expect_match(page, results$gene[results$rank %in% 1][1], fixed = TRUE)
    # four pictures: the test, the genes, the patterns, and no more
    expect_identical(lengths(regmatches(page, gregexpr("<img src=\"data:image/png", page))), 3L)

    browser <- Sys.which(c("chromium", "chromium-browser", "google-chrome"))
    browser <- browser[nzchar(browser)]
    if (length(browser) > 0L) {
      shot <- withr::local_tempfile(fileext = ".png")
      options <- c(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1100,3000"
      )
      profile <- withr::local_tempdir()
      flags <- c(options, paste0("--user-data-dir=", profile), "--virtual-time-budget=5000")
      system2(
        browser[[1L]],
        c(flags, paste0("--screenshot=", shot), paste0("file://", file)),
        stdout = FALSE,
        stderr = FALSE
      )
      expect_gt(file.size(shot), 20000)
      text <- system2(
        browser[[1L]],
        c(flags, "--dump-dom", paste0("file://", file)),
        stdout = TRUE,
        stderr = FALSE
      )
      expect_match(paste(text, collapse = "\n"), "<table")
    }
  })

  test_that("a report needs results only, and refuses what is none", {
    file <- withr::local_tempfile(fileext = ".html")
    patina_report(fake_test(), file = file)
    page <- paste(readLines(file, warn = FALSE), collapse = "\n")
    expect_no_match(page, "First genes in the tissue|Patterns</h2>")
    expect_match(page, "1 constant")
    expect_error(patina_report(1:3, file = file), class = "patina_error_argument")
    expect_error(patina_report(fake_test(), fake_test(), file = file), class = "patina_error_argument")
    expect_error(
      patina_report(fake_test(), file = "no/folder/x.html"),
      "file",
      class = "patina_error_argument"
    )
  })

  test_that("a table that was read from a file has a report too, whatever its title", {
    results <- spatial_test(example_tissue(60, 12), threads = 1)
    file <- withr::local_tempfile(fileext = ".html")
    patina_report(as.data.frame(results), file = file, title = "C:\\data \"x\"")
    expect_match(paste(readLines(file, warn = FALSE), collapse = " "), "12 genes tested", fixed = TRUE)
    expect_error(patina_report(results, file = file, title = NULL), "title", class = "patina_error_argument")
  })
}
