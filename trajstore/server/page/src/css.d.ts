declare module "*.css";
/** True in the page of a report, whose data are inside it; what is not for it is left out of a build. */
declare const OFFLINE: boolean;
/** True in the page of a report in a folder, whose losses lie beside it. */
declare const SPLIT: boolean;
