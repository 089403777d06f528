/** The page of a report. */
import "./report.css";
import "./main";
